"""CPC: patches that are cut and told apart as the paper says, and a context that does not see what it predicts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from formulas import random, softmax
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import ENCODERS
from torch import Tensor

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.views import Views
from ssl_tasks.losses.predictive import cpc
from ssl_tasks.methods import build
from ssl_tasks.methods.contrastive.cpc import half_overlapping
from ssl_tasks.nn.context import RowsAbove
from ssl_tasks.nn.encoder import TimmEncoder

SMALL: dict[str, Any] = {"hidden": 16, "depth": 2}


def made(encoder: str = "vit", **changes: Any) -> Any:
    torch.manual_seed(0)
    return build(configs.CPC(**{**SMALL, **changes}), TimmEncoder(ENCODERS[encoder])).double().train()


def image(images: int = 3) -> Tensor:
    return random(images, 1, 16, 16)


# The patches


def test_patches_overlap_by_half_and_cover_the_image() -> None:
    """The paper's: 7 x 7 of 64 px from 256."""
    pixels = torch.arange(256.0 * 256).view(1, 1, 256, 256)
    patches = half_overlapping(pixels, 32)
    assert patches.shape == (1, 7, 7, 1, 64, 64)
    for row, column in ((0, 0), (2, 5), (6, 6)):
        top, left = 32 * row, 32 * column
        assert torch.equal(patches[0, row, column], pixels[0, :, top : top + 64, left : left + 64])
    assert patches.unique().numel() == 256 * 256


@pytest.mark.parametrize("encoder", ["vit", "convnet"])
def test_each_patch_is_encoded_on_its_own(encoder: str) -> None:
    """In eval mode, as batch norm looks at all of them: what lies outside of a patch has no influence on its feature."""
    method, x = made(encoder).eval(), image().requires_grad_()
    latents = method._latents(x)
    assert latents.shape[:3] == (3, 7, 7)
    (gradient,) = torch.autograd.grad(latents[1, 2, 4].sum() + latents[1, 2, 4].square().sum(), x)
    inside = torch.zeros_like(gradient, dtype=torch.bool)
    inside[1, :, 4:8, 8:12] = True
    assert gradient[inside].any()
    assert not gradient[~inside].any()


# The context


@pytest.mark.parametrize("depth", [1, 3])
def test_a_context_sees_its_row_and_as_many_rows_above_as_there_are_blocks_and_no_row_below(depth: int) -> None:
    torch.manual_seed(0)
    network, places = RowsAbove(8, 16, depth).double(), random(2, 7, 7, 8).requires_grad_()
    for row in range(7):
        (gradient,) = torch.autograd.grad(network(places)[0, row, 3].sum(), places)
        seen = gradient.abs().sum(dim=(2, 3)) > 0
        assert not seen[1].any(), "of other images"
        assert [r for r in range(7) if seen[0, r]] == list(range(max(0, row - depth), row + 1))


def test_a_whole_row_is_seen_on_both_sides() -> None:
    torch.manual_seed(0)
    places = random(1, 7, 7, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(RowsAbove(8, 16, 3).double()(places)[0, 2, 3].sum(), places)
    assert (gradient[0, 2].abs().sum(dim=1) > 0).all()


def test_a_prediction_does_not_hang_on_the_pixels_below_what_the_context_saw() -> None:
    """Row 2's patches end at pixel 8 of 16; row 4, which is predicted two steps down, begins there."""
    method, x = made(depth=5).eval(), image().requires_grad_()
    context = method.context(method._latents(x))
    (gradient,) = torch.autograd.grad(method.predictors["2"](context[:, 2]).square().sum(), x)
    assert gradient[:, :, :8].any(dim=3).all()
    assert not gradient[:, :, 8:].any()


# The loss


def test_the_loss_is_the_papers_with_loops() -> None:
    predictions, latents = random(4, 5), random(9, 5)
    positives = torch.tensor([3, 0, 8, 3])
    p = softmax(predictions.numpy() @ latents.numpy().T)
    assert_allclose(cpc(predictions, latents, positives), -np.mean([np.log(p[i, j]) for i, j in enumerate(positives)]), rtol=1e-12)


@pytest.mark.parametrize(("scores", "loss"), [([9, 3, 1, -2], 0.00282692), ([9, 8.5, 1, -2], 0.47429617)], ids=["easy", "a hard negative"])
def test_scores_worked_out_by_hand(scores: list[float], loss: float) -> None:
    ours = cpc(torch.ones(1, 1).double(), torch.tensor(scores, dtype=torch.float64)[:, None], torch.tensor([0]))
    assert_allclose(ours, loss, atol=1e-8)
    assert_allclose(math.log(4) - ours, {0.00282692: 1.38346744, 0.47429617: 0.91199820}[loss], atol=1e-8)  # the bound on mutual information


@pytest.mark.parametrize("patches", [4, 8, 100])
def test_features_that_are_all_one_give_the_loss_of_chance(patches: int) -> None:
    assert_allclose(cpc(torch.ones(3, 5), torch.ones(patches, 5), torch.zeros(3, dtype=torch.long)), math.log(patches), rtol=1e-6)


@pytest.mark.parametrize(("encoder", "skipped"), [("vit", 0), ("convnet", 0), ("vit", 2)])
def test_each_step_down_must_be_told_from_all_other_patches_of_the_batch(encoder: str, skipped: int) -> None:
    method = made(encoder, skipped=skipped)
    z = method._latents(image())
    c = method.context(z)
    losses = []
    for k in range(1 + skipped, 6):
        w = method.predictors[str(k)].weight
        terms = []
        for n, row, column in np.ndindex(3, 7 - k, 7):
            scores = z @ (w @ c[n, row, column])
            terms.append(float((scores.flatten().logsumexp(0) - scores[n, row + k, column]).detach()))
        losses.append(np.mean(terms))
    assert len(losses) == 5 - skipped
    assert_allclose(method([image()], 0.5)["info_nce"].detach(), np.mean(losses), rtol=1e-8)


def test_a_step_makes_patches_easier_to_tell() -> None:
    method = made(patches=3, steps=2)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    before = method([image()], 0.5)["info_nce"]
    before.backward()
    optimizer.step()
    assert method([image()], 0.5)["info_nce"] < before


# Bad input


def encoder_of(name: str, size: int, patch: int | None = None) -> TimmEncoder:
    small: dict[str, Any] = {"width": 16, "depth": 1, "heads": 1, "patch_size": patch} if patch else {"options": ENCODERS["convnet"].options}
    return TimmEncoder(Encoder(name=name, image_size=size, channels=1, **small))


@pytest.mark.parametrize(
    ("name", "size", "patch", "message"),
    [
        ("resnetv2_18", 4, None, "cannot cut 4 px in 7 half-overlapping patches a side: set encoder.image_size to a multiple of 8, such as 8,"),
        ("resnetv2_18", 30, None, "cannot cut 30 px in 7 half-overlapping patches a side: set encoder.image_size to a multiple of 8, such as 32,"),
        (
            "vit_tiny_patch16_224",
            224,
            16,
            "cannot cut 224 px in 7 half-overlapping patches a side that the encoder's patches of 16 px fill: "
            "set encoder.image_size to a multiple of 64, such as 256,",
        ),
    ],
)
def test_an_image_that_cannot_be_cut_is_refused_with_a_size_that_can(name: str, size: int, patch: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build(configs.CPC(**SMALL), encoder_of(name, size, patch))
    assert "\n" not in str(error.value)
    assert "method.patches" in str(error.value)
    proposed = int(message.split("such as ")[1].rstrip(","))
    build(configs.CPC(**SMALL), encoder_of(name, proposed, patch))


def test_other_views_and_steps_that_leave_the_image_are_refused() -> None:
    with pytest.raises(ValidationError, match="this method"):
        configs.CPC(views=Views(count=2))
    with pytest.raises(ValidationError, match="steps 5 lead out of 5 rows of patches: set steps to at most 4"):
        configs.CPC(patches=5)
    with pytest.raises(ValidationError, match="skipped 5 leaves none of 5 steps to be predicted"):
        configs.CPC(skipped=5)
