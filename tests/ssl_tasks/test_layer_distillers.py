"""Students that learn from layers inside their teacher: FitNets' hints, and attention transfer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import ENCODERS
from test_distill import NARROW, teach, workspace
from test_feature_distillers import lesson_of, seen_by, student, study, terms, views
from tiny_training import CONV, TRAIN
from torch import nn

from schemas.distillers import AttentionTransfer, Feature, FitNets, Tap
from schemas.errors import UserError
from schemas.stages import Distill
from schemas.students import Student as StudentConfig
from ssl_tasks.distill.features.fitnets import Regressor
from ssl_tasks.losses.attention import attention_transfer
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_map

__all__ = ["workspace"]


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


def test_a_compiled_encoder_shows_no_layers() -> None:
    train = TRAIN.model_copy(update={"compile": True})
    students = {"small": StudentConfig(**CONV.model_dump())}
    with pytest.raises(ValidationError, match="attention_transfer looks at layers inside the encoder, and a compiled one shows none: leave compile out"):
        Distill(dataset="data", teacher="teacher", method=AttentionTransfer(), students=students, train=train)
    Distill(dataset="data", teacher="teacher", method=FitNets(), students=students, train=train)


# Whole stages


def test_a_student_that_learns_an_inner_layer_alone_is_told_so(workspace: Path) -> None:
    teach(workspace)
    alone, beside = FitNets(layers=[Tap(student="stages.0", teacher="stages.0")]), Feature()
    said = [study(workspace, method, CONV, f"wide-{i}")[1].notes for i, method in enumerate((alone, [alone, beside]))]
    backbone = TimmEncoder(CONV).backbone
    behind = sum(p.numel() for part in (backbone.stages[1], backbone.norm) for p in part.parameters())
    assert any(f"s learns by inner layers alone, and {behind:,} of its" in note for note in said[0])
    assert not any("inner layers" in note for note in said[1])


def test_a_layer_that_the_teacher_has_not_ends_the_stage_before_it_trains(workspace: Path) -> None:
    teach(workspace)
    with pytest.raises(UserError, match=r"'resnetv2_18' has no layer 'blocks\.3'; the nearest are: "):
        study(workspace, FitNets(layers=[Tap(student="stages.0", teacher="blocks.3")]), NARROW, "narrow")
