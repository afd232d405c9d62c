"""Errors under corruption: the paper's formula by hand, baselines, and that a probe sees what the network is fed."""

import numpy as np
import pytest
import torch
from planted_features import by_class, judged, planted, values
from small_world import SmallWorld, protocol

from schemas.protocols.robustness import Corruptions
from ssl_tasks.evaluate import probes
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.robustness import corruption_errors
from ssl_tasks.evaluate.robustness.corruption_errors import Errors, fed
from ssl_tasks.evaluate.robustness.corruptions import mce, relative_mce
from ssl_tasks.nn.features import prepare


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("robustness"))


def random_errors(seed: int) -> Errors:
    generator = np.random.default_rng(seed)
    return Errors((generator.random(50) < 0.2).astype(float), (generator.random((3, 5, 50)) < 0.5).astype(float))


def test_mce_is_the_mean_over_corruptions_of_error_sums_over_those_of_the_baseline() -> None:
    own, base = random_errors(0), random_errors(1)
    e, b = own.corrupted.mean(2), base.corrupted.mean(2)
    by_hand = [sum(e[c, s] for s in range(5)) / sum(b[c, s] for s in range(5)) for c in range(3)]
    assert mce(own, base).mean() == pytest.approx(sum(by_hand) / 3, rel=1e-12)
    lost = [sum(e[c, s] - own.clean.mean() for s in range(5)) / sum(b[c, s] - base.clean.mean() for s in range(5)) for c in range(3)]
    assert relative_mce(own, base).mean() == pytest.approx(sum(lost) / 3, rel=1e-12)


def test_a_model_is_as_bad_as_itself() -> None:
    own = random_errors(2)
    assert mce(own, own).mean() == pytest.approx(1)
    assert relative_mce(own, own).mean() == pytest.approx(1)


def test_images_that_nothing_is_done_to_leave_the_clean_error(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption_errors, "corrupted", lambda images, *_: images)
    subject, asked = world.subject("vit"), protocol("corruptions", samples=100)
    found = values(apply(asked, subject)[0])
    parts = subject.world.parts
    clean = (probes.fit("knn", subject).predict(subject.features[parts.queries]) != parts.labels[parts.queries]).mean()
    assert found["corrupted_error"] == pytest.approx(clean)
    assert found["error_fog"] == pytest.approx(clean)
    assert "relative_mce" not in found  # the baseline loses nothing, so that there is nothing to divide by


def test_errors_are_those_of_the_probe_on_corrupted_images(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that are the image's mean, and a corruption that makes it that of the next class."""
    monkeypatch.setattr(corruption_errors, "corrupted", lambda images, kind, *_: images * 0 if kind == "fog" else images)
    subject = world.subject("vit")
    asked = protocol("corruptions", samples=100, corruptions=["fog", "snow"], severities=[1])
    found = values(apply(asked, subject)[0])
    black = torch.zeros(1, 3, 36, 36, dtype=torch.uint8)
    named = probes.fit("knn", subject).predict(subject.embed(black).pooled.numpy())
    parts = subject.world.parts
    assert found["error_fog"] == pytest.approx((parts.labels[parts.queries] != named[0]).mean())


def test_the_baselines_errors_are_worked_out_once_for_all_models_of_an_evaluation(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(corruption_errors, "_errors", lambda _, subject, __: (seen.append(subject.name), random_errors(0))[1])
    vit, random = world.subject("vit"), world.subject("random")
    random.world = vit.world
    for subject in (vit, random, vit):
        apply(protocol("corruptions", corruptions=["fog", "snow", "jpeg"], severities=[1, 2, 3, 4, 5]), subject)
    assert seen == ["vit", "random"]


def test_a_named_baseline_stands_for_a_hundred(world: SmallWorld) -> None:
    assert judged(world, "corruptions", baseline="vit")["mce"] == pytest.approx(1)


def test_a_baseline_without_the_head_that_is_judged_is_a_line(world: SmallWorld) -> None:
    with pytest.raises(Skipped, match=r"corruptions\.baseline: 'vit' is no classifier"):
        judged(world, "corruptions", "classifier", probe="classifier", baseline="vit")


def test_heads_have_no_mce_without_a_baseline_that_has_one(world: SmallWorld) -> None:
    assert "mce" not in judged(world, "corruptions", "classifier", probe="classifier")


def test_a_network_that_says_nothing_before_training_is_no_baseline(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda subject: np.zeros((len(subject.world.table), 24)) if subject.role == "random" else by_class(subject))
    monkeypatch.setattr(corruption_errors, "_features", lambda _, images: np.ones((len(images), 8)))
    assert set(judged(world, "corruptions", corruptions=["fog"])) == {"corrupted_error", "error_fog"}


def test_images_are_corrupted_as_they_are_fed() -> None:
    class Small:
        size = 32

    small, large = (torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8) for side in (20, 48))
    assert torch.equal(fed(Small(), small), small)  # type: ignore[arg-type]
    seen = fed(Small(), large)  # type: ignore[arg-type]
    assert seen.shape == (2, 3, 32, 32)
    mean, std = [0.5] * 3, [0.25] * 3
    assert float((prepare(seen, 32, mean, std) - prepare(large, 32, mean, std)).abs().max()) <= 0.5 / 255 / 0.25 + 1e-5


def test_a_strip_of_pictures_is_drawn_once_an_evaluation(world: SmallWorld) -> None:
    vit, convnet = world.subject("vit"), world.subject("convnet")
    convnet.world = vit.world
    names = [plate.name for subject in (vit, convnet) for plate in apply(protocol("corruptions"), subject)[1]]
    assert names == ["corruptions_vit", "corrupted_images_vit", "corruptions_convnet"]


def test_corruptions_name_kinds_and_severities_that_there_are() -> None:
    with pytest.raises(ValueError, match="severities"):
        Corruptions.model_validate({"severities": [6]})
    with pytest.raises(ValueError, match="corruptions"):
        Corruptions.model_validate({"corruptions": ["speckle"]})
