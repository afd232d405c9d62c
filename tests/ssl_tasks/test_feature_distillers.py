"""Students that learn their teacher's features: of images, of places, of inner layers, of what they do not see."""

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
from tiny_training import CONV, TRAIN, VIT, Recorder
from torch import Tensor, nn

from schemas.artifacts import Checkpoint
from schemas.distillers import AttentionTransfer, DistillerSpec, Feature, FitNets, Gram, MaskedFeature, Tap
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.stages import Distill
from schemas.students import Student as StudentConfig
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.distill import distill
from ssl_tasks.distill.features.fitnets import Regressor
from ssl_tasks.distill.network import Network, Seen, Shapes
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import build, wants_places
from ssl_tasks.distill.student import Student
from ssl_tasks.losses.attention import attention_transfer
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


# Hints


@pytest.mark.parametrize(
    ("side", "kernel"),
    [(4, "Conv2d (1, 1) (1, 1)"), (8, "Conv2d (3, 3) (2, 2)"), (2, "ConvTranspose2d (4, 4) (2, 2)"), (7, "Conv2d (1, 1) (1, 1)"), (1, "Conv2d (1, 1) (1, 1)")],
)
def test_the_regressor_follows_from_the_sizes_of_the_maps(side: int, kernel: str) -> None:
    regressor = Regressor((6, side, side), (5, 4, 4))
    convolution: Any = regressor.convolution
    assert f"{type(convolution).__name__} {convolution.kernel_size} {convolution.stride}" == kernel
    assert regressor(torch.randn(2, 6, side, side)).shape == (2, 5, 4, 4)


def test_hints_of_several_layers_are_added() -> None:
    taps = [Tap(student="stages.0", teacher="blocks.0"), Tap(student="stages.1", teacher="last")]
    made = student(FitNets(layers=taps)).eval()
    seen, theirs = seen_by(made), lesson_of(made).teacher
    assert theirs is not None
    objective: Any = made.each()[0]
    regressed = [regressor(seen.map(tap.student)) for regressor, tap in zip(objective.regressors, taps, strict=True)]
    expected = sum(((own - theirs.map(tap.teacher)) ** 2).mean().item() for own, tap in zip(regressed, taps, strict=True))
    assert_allclose(terms(made)["hint"], expected, rtol=1e-5)


def test_a_student_that_learns_an_inner_layer_alone_keeps_the_rest_as_it_was() -> None:
    made = student(FitNets(layers=[Tap(student="stages.0", teacher="blocks.0")]))
    trained = {name for name, p in made.network.named_parameters() if p.requires_grad}
    assert any("stages.0" in name for name in trained)
    assert not any("stages.1" in name for name in trained)


# Attention


def test_attention_is_of_the_places_before_a_vits_last_norm() -> None:
    """Behind the norm the squares of every place sum to the same: there would be nothing to learn."""
    made = student(AttentionTransfer(), ENCODERS["vit"]).eval()
    seen, theirs = seen_by(made), lesson_of(made).teacher
    assert theirs is not None
    block = made.network.encoder.backbone.blocks[-1]
    embedded = made.network.encoder.backbone._pos_embed(made.network.encoder.backbone.patch_embed(views()[0]))
    assert_allclose(seen.map("last").detach(), as_map(block(embedded)[:, 1:]).detach(), atol=1e-5)
    assert_allclose(terms(made)["attention"], 1000 * attention_transfer(seen.map("last"), theirs.map("last")).item(), rtol=1e-5)
    assert terms(made)["attention"] > 0.01


def test_attention_maps_of_unlike_sizes_meet_at_the_smaller() -> None:
    made = student(AttentionTransfer(layers=[Tap(student="stages.0", teacher="blocks.0")], beta=2.0)).eval()
    seen, theirs = seen_by(made), lesson_of(made).teacher
    assert theirs is not None
    large, small = seen.map("stages.0"), theirs.map("blocks.0")
    assert (large.shape[2:], small.shape[2:]) == ((8, 8), (4, 4))
    expected = 2 * attention_transfer(nn.functional.avg_pool2d(large, 2), small)
    assert_allclose(terms(made)["attention"], expected.item(), rtol=1e-5)


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


# Masked features


def test_a_share_of_each_views_patches_is_masked_every_image_and_view_otherwise() -> None:
    made = student(MaskedFeature(mask_ratio=0.6), ENCODERS["vit"])
    taught = lesson_of(made)
    pair = Lesson(taught.teacher, views() * 2, 2, taught.rows, taught.labels, 3, BATCH)
    masks = made.each()[0].mask(pair, 4)
    assert masks is not None
    assert masks.shape == (2 * BATCH, 16)
    assert (masks.sum(dim=1) == 10).all(), "0.6 of 16, rounded"
    assert len(masks.unique(dim=0)) > BATCH
    assert torch.equal(masks, made.each()[0].mask(pair, 4))  # type: ignore[arg-type]  # it is no None


@pytest.mark.parametrize("masking", ["random", "block"])
def test_the_loss_is_a_mean_over_masked_patches_and_the_image(masking: Any) -> None:
    """Of the standardised features of a teacher that sees everything; by the formula of https://github.com/liuxingbin/dbot."""
    made = student(MaskedFeature(mask_ratio=0.5, masking=masking, beta=0.7), ENCODERS["vit"]).eval()
    taught, objective = lesson_of(made), made.each()[0]
    own: Any = objective
    mask = objective.mask(taught, 4)
    assert mask is not None
    assert taught.teacher is not None
    seen = made.network(views(), (), mask, made.mask_token)
    tokens = [(own.of_image(seen.pooled)[b], taught.teacher.pooled[b]) for b in range(BATCH)]
    assert seen.places is not None
    assert taught.teacher.places is not None
    predicted = own.of_patches(seen.places)
    tokens += [(predicted[b, n], taught.teacher.places[b, n]) for b in range(BATCH) for n in range(16) if mask[b, n]]
    losses = []
    for guess, target in tokens:
        t = target.double().numpy()
        d = guess.detach().double().numpy() - (t - t.mean()) / np.sqrt(t.var(ddof=1) + 1e-6)
        losses.append(np.where(abs(d) < 0.7, d * d / 1.4, abs(d) - 0.35).mean())
    found = terms(made)
    assert set(found) == {"masked_patches", "masked_image"}
    assert_allclose(sum(found.values()), np.mean(losses), rtol=1e-5)


def test_what_is_masked_is_not_seen() -> None:
    made = student(MaskedFeature(), ENCODERS["vit"]).eval()
    mask = made.each()[0].mask(lesson_of(made), 4)
    assert mask is not None
    shown = mask.view(BATCH, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    altered = torch.where(shown, 7.0, views()[0])
    first, second = (made.network([x], (), mask, made.mask_token).pooled for x in (views()[0], altered))
    assert torch.equal(first, second)
    assert not torch.allclose(made.network([altered]).pooled, made.network(views()).pooled)


def test_targets_of_another_grid_are_resampled_to_the_students_patches() -> None:
    made = student(MaskedFeature(), COARSE)
    assert made.each()[0].mask(lesson_of(made), 2).shape == (BATCH, 4)  # type: ignore[union-attr]  # it is no None
    assert all(term > 0 for term in terms(made).values())


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


def test_a_compiled_encoder_shows_no_layers() -> None:
    train = TRAIN.model_copy(update={"compile": True})
    students = {"small": StudentConfig(**CONV.model_dump())}
    with pytest.raises(ValidationError, match="attention_transfer looks at layers inside the encoder, and a compiled one shows none: leave compile out"):
        Distill(dataset="data", teacher="teacher", method=AttentionTransfer(), students=students, train=train)
    Distill(dataset="data", teacher="teacher", method=FitNets(), students=students, train=train)


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


def test_a_student_that_learns_an_inner_layer_alone_is_told_so(workspace: Path) -> None:
    teach(workspace)
    alone, beside = FitNets(layers=[Tap(student="stages.0", teacher="stages.0")]), Feature()
    said = [study(workspace, method, CONV, f"wide-{i}")[1].notes for i, method in enumerate((alone, [alone, beside]))]
    backbone = TimmEncoder(CONV).backbone
    behind = sum(p.numel() for part in (backbone.stages[1], backbone.norm) for p in part.parameters())
    assert any(f"s learns by inner layers alone, and {behind:,} of its" in note for note in said[0])
    assert not any("inner layers" in note for note in said[1])


def test_a_student_becomes_the_teacher_of_the_next_stage(workspace: Path) -> None:
    """dBOT's stages: the second student begins anew, under the first."""
    teach(workspace)
    first, _ = study(workspace, MaskedFeature(), VIT, "first")
    second, tracker = study(workspace, MaskedFeature(), VIT, "second", taught_by="first")
    assert losses(tracker)[-1] < losses(tracker)[0] - 0.02
    assert first.files[WEIGHTS] != second.files[WEIGHTS]


def test_a_layer_that_the_teacher_has_not_ends_the_stage_before_it_trains(workspace: Path) -> None:
    teach(workspace)
    with pytest.raises(UserError, match=r"'resnetv2_18' has no layer 'blocks\.3'; the nearest are: "):
        study(workspace, FitNets(layers=[Tap(student="stages.0", teacher="blocks.3")]), NARROW, "narrow")
