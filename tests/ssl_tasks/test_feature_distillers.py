"""Students that learn their teacher's features, of images and of places; and what all distillers of features have in common."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_distill
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from safetensors.torch import load_file
from small_methods import BATCH, ENCODERS, Case, inputs
from test_distill import NARROW, VIEWS, job, teach
from tiny_training import TRAIN, Recorder
from torch import Tensor, nn

from schemas.artifacts import Checkpoint
from schemas.distillers import AttentionTransfer, DistillerSpec, Feature, FitNets, Gram, MaskedFeature, Tap
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.stages import Distill
from schemas.students import Student as StudentConfig
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.distill import distill
from ssl_tasks.distill.network import Network, Seen, Shapes
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import build, wants_places
from ssl_tasks.distill.student import Student
from ssl_tasks.losses.feature import cosine_distance
from ssl_tasks.losses.gram import gram
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_map, as_places, resampled

workspace = test_distill.workspace
COARSE = Encoder(name="vit_tiny_patch16_224", image_size=16, patch_size=8, width=32, depth=1, heads=2, channels=1)
"""Has 2 x 2 patches where the tests' teacher has 4 x 4."""
POINT = Encoder(name="vit_tiny_patch16_224", image_size=16, patch_size=16, width=32, depth=1, heads=2, channels=1)
"""Has one patch."""


def views() -> list[Tensor]:
    return [torch.randn(BATCH, 1, 16, 16, generator=torch.Generator().manual_seed(0))]


def student(config: DistillerSpec, encoder: Encoder = ENCODERS["convnet"]) -> Student:
    made = Case(config, encoder).make()
    assert isinstance(made, Student)
    return made


def lesson_of(made: Student) -> Lesson:
    taught = inputs(made, views())[1]
    assert isinstance(taught, Lesson)
    return taught


def terms(made: Student) -> dict[str, float]:
    return {name: term.item() for name, term in made(*inputs(made, views()), 0.5).items()}


def seen_by(made: Student) -> Seen:
    seen: Seen = made.network.eval()(views())
    return seen


# Every one of them


VARIANTS: dict[str, DistillerSpec] = {
    "feature of places": Feature(pooled=0.0, places=1.0),
    "feature of both": Feature(places=0.5, hidden=24),
    "feature by smooth L1": Feature(distance="smooth_l1", places=1.0, center=False),
    "fitnets": FitNets(layers=[Tap(student="last", teacher="blocks.0"), Tap(student="last", teacher="last")]),
    "attention": AttentionTransfer(layers=[Tap(student="last", teacher="blocks.0")]),
    "gram": Gram(),
}


@pytest.mark.parametrize("encoder", [*ENCODERS.values(), COARSE], ids=[*ENCODERS, "coarse"])
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_all_that_is_trained_gets_a_gradient_and_the_teacher_none(config: DistillerSpec, encoder: Encoder) -> None:
    made = student(config, encoder)
    batch, taught = inputs(made, views())
    said = taught.teacher
    for tensor in (said.pooled, said.places, *said.taps.values()):
        tensor.requires_grad_()
    torch.stack(list(made(batch, taught, 0.5).values())).sum().backward()  # type: ignore[no-untyped-call]  # of torch
    assert [name for name, p in made.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []
    assert all(tensor.grad is None for tensor in (said.pooled, said.places, *said.taps.values()))


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_two_global_views_are_two_images(config: DistillerSpec) -> None:
    """The loss of two equal views is that of one."""
    made = student(config).eval()
    one = lesson_of(made)
    assert one.teacher is not None
    assert one.teacher.places is not None
    doubled = Seen(torch.cat([one.teacher.pooled] * 2), torch.cat([one.teacher.places] * 2), {path: torch.cat([m] * 2) for path, m in one.teacher.taps.items()})
    two = Lesson(doubled, views() * 2, 2, one.rows, one.labels, samples=BATCH)
    expected = {name: term.item() for name, term in made(views(), one, 0.5).items()}
    assert {name: term.item() for name, term in made(views() * 2, two, 0.5).items()} == pytest.approx(expected, rel=1e-5)


# Feature regression


def test_a_part_without_weight_has_no_parameters_and_no_term() -> None:
    images, places = student(Feature()), student(Feature(pooled=0.0, places=2.0))
    assert set(terms(images)) == {"cosine"}
    assert set(terms(places)) == {"cosine_places"}
    assert not any("of_places" in name for name, _ in images.named_parameters())
    assert not any("of_image" in name for name, _ in places.named_parameters())


def test_places_are_made_only_where_they_have_a_weight() -> None:
    assert not wants_places([Feature()])
    assert not wants_places([AttentionTransfer(), FitNets(layers=[Tap(student="a", teacher="b")])])
    assert all(wants_places([config]) for config in (Feature(places=0.1), FitNets(), Gram(), MaskedFeature()))
    assert seen_by(student(Feature())).places is None


def test_weights_of_both_parts_factor_their_terms() -> None:
    plain, weighed = (terms(student(Feature(pooled=pooled, places=places))) for pooled, places in ((1.0, 1.0), (3.0, 0.25)))
    assert weighed == pytest.approx({"cosine": 3 * plain["cosine"], "cosine_places": 0.25 * plain["cosine_places"]}, rel=1e-5)


def test_a_feature_distillation_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="pooled and places are both 0: there is nothing to learn"):
        Feature(pooled=0.0)


@pytest.mark.parametrize(("encoder", "grid"), [(COARSE, (2, 2)), (ENCODERS["convnet"], (4, 4))], ids=["coarse", "convnet"])
def test_projected_places_are_resampled_to_the_teachers_grid(encoder: Encoder, grid: tuple[int, int]) -> None:
    made = student(Feature(pooled=0.0, places=1.0, center=False), encoder).eval()
    places, theirs = seen_by(made).places, lesson_of(made).teacher
    assert places is not None
    assert theirs is not None
    assert theirs.places is not None
    projection: Any = made.each()[0].of_places.projection
    maps = projection(places).mT.reshape(BATCH, 24, *grid)
    expected = cosine_distance(nn.functional.interpolate(maps, size=(4, 4), mode="bilinear", antialias=True).flatten(2).mT, theirs.places)
    assert_allclose(terms(made)["cosine_places"], expected.item(), rtol=1e-5)


def test_the_mean_that_is_taken_off_is_that_of_all_batches_so_far() -> None:
    made = student(Feature(places=1.0))
    said: list[Seen] = []
    for seed in range(3):
        batch = [torch.randn(BATCH, 1, 16, 16, generator=torch.Generator().manual_seed(seed))]
        _, taught = inputs(made, batch)
        made(batch, taught, 0.5)
        said.append(taught.teacher)
    objective: Any = made.each()[0]
    assert_allclose(objective.of_image.center, np.mean([seen.pooled.numpy().mean(axis=0) for seen in said], axis=0), atol=1e-6)
    of_places = [seen.places.numpy().mean(axis=(0, 1)) for seen in said if seen.places is not None]
    assert_allclose(objective.of_places.center, np.mean(of_places, axis=0), atol=1e-6)
    made.eval()
    expected = cosine_distance(objective.of_image.projection(seen_by(made).pooled), said[0].pooled - objective.of_image.center)
    assert_allclose(terms(made)["cosine"], expected.item(), rtol=1e-5)


def test_attention_has_no_parameters_of_its_own() -> None:
    assert list(student(AttentionTransfer()).objectives.parameters()) == []
    assert list(student(Gram()).objectives.parameters()) == []


# Relations of patches


@pytest.mark.parametrize("encoder", [COARSE, ENCODERS["vit"]], ids=["coarse", "vit"])
def test_the_finer_grid_of_patches_is_resampled_to_the_coarser(encoder: Encoder) -> None:
    made = student(Gram(), encoder).eval()
    own, theirs = seen_by(made).places, lesson_of(made).teacher
    assert own is not None
    assert theirs is not None
    assert theirs.places is not None
    side = 16 // encoder.patch
    expected = gram(own, as_places(resampled(as_map(theirs.places), (side, side))))
    assert_allclose(terms(made)["gram"], expected.item(), rtol=1e-5)


# Sizes that do not fit


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Gram(), "gram compares an image's places with each other, and the student has one"),
        (MaskedFeature(), "masked_feature masks part of the student's patches, and there is one"),
        (AttentionTransfer(), r"layer 'last' of the student \(1 x 1\) and 'last' of the teacher \(4 x 4\) have one place in common"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_student_of_one_place_is_refused_where_places_are_compared(config: DistillerSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        student(config, POINT)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Gram(), "gram compares an image's places with each other, and the teacher has one"),
        (MaskedFeature(), "masked_feature predicts what the teacher says of places, and it has a single one"),
        (AttentionTransfer(), "have one place in common"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_teacher_of_one_place_is_refused_where_places_are_compared(config: DistillerSpec, message: str) -> None:
    network = Network(TimmEncoder(ENCODERS["vit"]), None, ["last"], places=True)
    one = Shapes(24, 24, (1, 1), {"last": (24, 1, 1)}, 0, 16)
    with pytest.raises(UserError, match=message):
        build(config, Setting(network.shapes(), one, network, 64))


# Whole stages


def study(workspace: Path, method: Any, encoder: Encoder, key: str, taught_by: str = "teacher") -> tuple[Checkpoint, Recorder]:
    tracker = Recorder()
    stage = Distill(dataset="data", teacher="t", method=method, students={"s": StudentConfig(**encoder.model_dump())}, views=VIEWS, train=TRAIN, seed=5)
    made = distill(job(workspace, f"stage-{key}", stage, {"data": "data", "t": taught_by}, {"s": key}), tracker)["s"]
    assert isinstance(made, Checkpoint)
    return made, tracker


def losses(tracker: Recorder) -> list[float]:
    return [values["s/train/loss"] for _, values in tracker.points if "s/train/loss" in values]


@pytest.mark.parametrize(
    "method",
    [
        Feature(distance="smooth_l1", places=1.0),
        FitNets(layers=[Tap(student="stages.0", teacher="stages.0")]),
        [Feature(), AttentionTransfer(layers=[Tap(student="stages.0", teacher="stages.0")])],
    ],
    ids=["feature", "fitnets", "feature and attention"],
)
def test_a_student_learns_in_a_stage_and_its_checkpoint_holds_the_encoder_alone(workspace: Path, method: Any) -> None:
    teach(workspace)
    made, tracker = study(workspace, method, NARROW, "narrow")
    assert losses(tracker)[-1] < losses(tracker)[0]
    assert set(load_file(made.path(WEIGHTS))) == set(TimmEncoder(NARROW).backbone.state_dict())
