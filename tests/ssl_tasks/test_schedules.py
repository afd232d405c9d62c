"""Learning rates and other schedules, as functions of progress."""

import math

import pytest

from schemas.training import AdamW, Train
from ssl_tasks.schedules import cosine, learning_rate, linear


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
    train = Train(optimizer=AdamW(learning_rate=2.0), warmup=0.2, final_rate=0.1)
    assert learning_rate(0.0, train) == 0.0
    assert learning_rate(0.1, train) == pytest.approx(1.0)
    assert learning_rate(0.2, train) == pytest.approx(2.0)
    assert learning_rate(0.6, train) == pytest.approx(1.1)
    assert learning_rate(1.0, train) == pytest.approx(0.2)


def test_a_constant_learning_rate_is_constant_after_its_warm_up() -> None:
    train = Train(optimizer=AdamW(learning_rate=2.0), warmup=0.5, schedule="constant")
    assert [learning_rate(x, train) for x in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 2.0, 2.0, 2.0])


def test_no_warm_up_starts_at_the_peak() -> None:
    train = Train(optimizer=AdamW(learning_rate=2.0), warmup=0.0)
    assert learning_rate(0.0, train) == pytest.approx(2.0)
    assert learning_rate(0.25, train) == pytest.approx(1 + math.cos(math.pi / 4))
