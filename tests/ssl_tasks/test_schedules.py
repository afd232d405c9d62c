"""Learning rates and other schedules, as functions of progress."""

import math

import pytest

from schemas.training import SGD, AdamW, Train
from ssl_tasks.schedules import cosine, learning_rate, linear, weight_decay


def test_a_line_and_a_cosine_share_ends_and_middle() -> None:
    for schedule in (linear, cosine):
        assert [schedule(x, 2.0, 6.0) for x in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 4.0, 6.0])
        assert schedule(-1.0, 2.0, 6.0) == 2.0
        assert schedule(3.0, 2.0, 6.0) == 6.0


def test_the_momentum_of_an_ema_rises_as_in_byol() -> None:
    """0.996 to 1 along a cosine: https://arxiv.org/abs/2006.07733, appendix J."""
    expected = [0.996, 0.99658579, 0.998, 0.99941421, 1.0]
    assert [cosine(x, 0.996, 1.0) for x in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(expected, abs=1e-8)


def test_the_learning_rate_warms_up_then_falls_to_its_final_share() -> None:
    train = Train(warmup=0.2, final_rate=0.1)
    assert learning_rate(0.0, train, 2.0) == 0.0
    assert learning_rate(0.1, train, 2.0) == pytest.approx(1.0)
    assert learning_rate(0.2, train, 2.0) == pytest.approx(2.0)
    assert learning_rate(0.6, train, 2.0) == pytest.approx(1.1)
    assert learning_rate(1.0, train, 2.0) == pytest.approx(0.2)


def test_a_constant_learning_rate_is_constant_after_its_warm_up() -> None:
    train = Train(warmup=0.5, schedule="constant")
    assert [learning_rate(x, train, 2.0) for x in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 2.0, 2.0, 2.0])


def test_no_warm_up_starts_at_the_peak() -> None:
    train = Train(warmup=0.0)
    assert learning_rate(0.0, train, 2.0) == pytest.approx(2.0)
    assert learning_rate(0.25, train, 2.0) == pytest.approx(1 + math.cos(math.pi / 4))


@pytest.mark.parametrize(
    ("rate", "rule", "reference", "batch", "peak"),
    [
        (0.3, "none", 256, 4096, 0.3),
        (0.3, "linear", 256, 4096, 4.8),  # SimCLR, https://arxiv.org/abs/2002.05709, section 2.2
        (1.5e-4, "linear", 256, 4096, 2.4e-3),  # MAE, https://arxiv.org/abs/2111.06377, table 8
        (4e-3, "sqrt", 1024, 3072, 4e-3 * math.sqrt(3)),  # DINOv2, https://github.com/facebookresearch/dinov2, ssl_default_config.yaml
        (1e-3, "sqrt", 256, 64, 5e-4),
    ],
)
def test_the_peak_follows_the_batch_by_the_rule_of_the_paper(rate: float, rule: str, reference: int, batch: int, peak: float) -> None:
    train = Train(optimizer=SGD(learning_rate=rate), scale_rate=rule, reference_batch=reference)  # type: ignore[arg-type]  # text
    assert train.peak_rate(batch) == pytest.approx(peak)


def test_weight_decay_stays_or_rises_along_a_cosine_as_in_dino() -> None:
    """0.04 to 0.4: https://arxiv.org/abs/2104.14294, section 3.2."""
    rising = Train(optimizer=AdamW(weight_decay=0.04), weight_decay_end=0.4)
    assert [weight_decay(x, rising) for x in (0.0, 0.5, 1.0)] == pytest.approx([0.04, 0.22, 0.4])
    assert {weight_decay(x, Train(optimizer=AdamW(weight_decay=0.04))) for x in (0.0, 0.5, 1.0)} == {0.04}
