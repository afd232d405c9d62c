"""I-JEPA: blocks of a context and of targets, what the predictor is told and what it is not, and the loss as loops have it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from masked_views import BATCH, blocks_of, draw, drift, make, only, over_pixels, pictures, seen
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import layer_norm

from schemas.errors import UserError
from schemas.methods import IJEPA
from schemas.views import Views
from ssl_tasks.data.blocks import context_and_targets, least_context
from ssl_tasks.data.draw import Draw
from ssl_tasks.nn.predictor import PatchPredictor

SMALL = IJEPA(predictor_width=32, predictor_depth=2, predictor_heads=2)


def blocks(grid: int, drawn: Draw, targets: int = 4) -> tuple[Tensor, Tensor]:
    """As the paper has them."""
    return context_and_targets(drawn, grid, targets, (0.15, 0.2), (0.75, 1.5), (0.85, 1.0))


# Blocks


def rectangle(numbers: Tensor, grid: int) -> tuple[int, int]:
    """Height and width of a block, which must be whole."""
    rows, columns = numbers // grid, numbers % grid
    height, width = (int(places.max() - places.min()) + 1 for places in (rows, columns))
    assert len(set(numbers.tolist())) == len(numbers) == height * width
    return height, width


@pytest.mark.parametrize("grid", [14, 16, 28])
def test_targets_are_rectangles_of_one_size_a_batch_within_the_papers_ranges(grid: int) -> None:
    sizes = set[tuple[int, int]]()
    for seed in range(60):
        _, targets = blocks(grid, draw(3, seed=seed))
        of_batch = {rectangle(block, grid) for image in targets for block in image}
        assert len(of_batch) == 1
        sizes |= of_batch
    for height, width in sizes:  # a side is rounded by half a patch at most
        assert (height - 0.5) * (width - 0.5) < 0.2 * grid**2
        assert (height + 0.5) * (width + 0.5) > 0.15 * grid**2
        assert (height - 0.5) / (width + 0.5) < 1.5
        assert (height + 0.5) / (width - 0.5) > 0.75
    assert len(sizes) > 5
    assert any(height > width for height, width in sizes)
    assert any(height < width for height, width in sizes)


@pytest.mark.parametrize("grid", [3, 4, 5, 7, 14, 16])
def test_no_patch_of_a_target_is_in_a_context_and_enough_is_left(grid: int) -> None:
    for seed in range(40):
        context, targets = blocks(grid, draw(8, seed=seed))
        assert context.shape[1] >= least_context(grid)
        for kept, wanted in zip(context.tolist(), targets.flatten(1).tolist(), strict=True):
            assert len(set(kept)) == len(kept)
            assert not set(kept) & set(wanted)
            assert all(0 <= number < grid**2 for number in kept + wanted)
    assert least_context(14) == 10


def test_a_context_is_a_square_less_the_targets_cut_to_the_shortest_of_the_batch() -> None:
    whole = 0
    for seed in range(20):
        context, targets = context_and_targets(draw(4, seed=seed), 28, 1, (0.15, 0.2), (0.75, 1.5), (0.4, 0.4))
        left: list[int] = []
        for kept, wanted in zip(context, targets, strict=True):
            rows, columns = kept // 28, kept % 28
            top, left_most, bottom, right_most = int(rows.min()), int(columns.min()), int(rows.max()), int(columns.max())
            assert max(bottom - top, right_most - left_most) < 18, "0.4 of 28 x 28 is 18 x 18"
            inside = {row * 28 + column for row in range(top, bottom + 1) for column in range(left_most, right_most + 1)}
            left.append(len(inside - set(wanted.flatten().tolist())))
        assert min(left) >= context.shape[1]
        whole += min(left) == context.shape[1]
    assert whole >= 15, "the image that has the fewest left keeps them all"


def test_each_process_has_its_rows_of_the_blocks_of_one() -> None:
    whole = blocks(14, draw(6))
    halves = [blocks(14, draw(6, own)) for own in (slice(0, 3), slice(3, 6))]
    for i in range(2):
        assert torch.equal(torch.cat([half[i] for half in halves]), whole[i])


def test_places_are_drawn_for_every_image_and_block_and_reach_the_edges() -> None:
    targets = torch.cat([blocks(14, draw(50, seed=seed))[1].flatten(0, 1)[:, 0] for seed in range(4)])
    assert len(set(targets.tolist())) > 50
    assert {int(number) // 14 for number in targets} >= set(range(7))
    assert 0 in targets


# What the predictor is told


def test_no_pixel_outside_of_the_context_reaches_a_prediction() -> None:
    method = make(SMALL).eval()
    images, context, targets = seen(method)
    visible = over_pixels(only(context))
    altered = torch.where(visible, images, images + 3)
    assert torch.equal(method.predicted(altered, context, targets), method.predicted(images, context, targets))
    assert not torch.allclose(method.predicted(images * 0.9, context, targets), method.predicted(images, context, targets))
    assert not torch.allclose(method.targets(altered), method.targets(images)), "the teacher sees all"


def test_no_gradient_flows_into_targets_or_the_teacher() -> None:
    method = make(SMALL)
    images, context, targets = seen(method)
    images.requires_grad_()
    torch.autograd.backward(method([images, context, targets], 0.5)["i_jepa"])
    assert images.grad is not None
    assert torch.equal(images.grad != 0, over_pixels(only(context)).expand_as(images))
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_predictor_answers_by_place_and_each_target_on_its_own() -> None:
    method = make(SMALL).eval()
    images, context, targets = seen(method)
    answers = method.predicted(images, context, targets)
    torch.testing.assert_close(method.predicted(images, context, targets.flip(1)), answers.flip(1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(method.predicted(images, context, targets[:, :1]), answers[:, :1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(method.predicted(images, context, targets.flip(2)), answers.flip(2), rtol=1e-9, atol=1e-9)
    moved = torch.where(targets > 0, targets - 1, 1)
    assert not torch.allclose(method.predicted(images, context, moved), answers)


def test_the_predictor_knows_where_the_context_is_and_begins_small_in_its_depth() -> None:
    torch.manual_seed(0)
    predictor = PatchPredictor(8, prefix_tokens=1, grid=4, width=64, depth=3, heads=2).double()
    tokens, asked = torch.randn(1, 4, 8, dtype=torch.float64), torch.tensor([[[9, 10]]])
    first, second = (predictor(tokens, torch.tensor([kept]), asked) for kept in ([0, 1, 2], [2, 1, 0]))
    assert not torch.allclose(first, second)
    for number, block in enumerate(predictor.blocks, start=1):
        for weight in (block.get_parameter("attn.proj.weight"), block.get_parameter("mlp.fc2.weight")):
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * number), rel=0.05)
        assert block.get_parameter("attn.qkv.weight").std().item() == pytest.approx(0.02, rel=0.05)


# Loss and teacher


def test_the_loss_is_the_smooth_l1_distance_to_the_teachers_normalised_features() -> None:
    method = make(SMALL)
    drift(method)
    images, context, targets = seen(method)
    last = method.teacher.network.backbone.norm(blocks_of(method.teacher.network, images)[-1])
    features = layer_norm(last, (32,)).detach().numpy()
    said = method.predicted(images, context, targets).detach().numpy()
    distances = [abs(said[b, t, m] - features[b, targets[b, t, m]]) for b, t, m in np.ndindex(*targets.shape)]
    expected = np.mean([np.where(d < 1, d**2 / 2, d - 0.5) for d in distances])
    assert_allclose(method([images, context, targets], 0.5)["i_jepa"].item(), expected, rtol=1e-9)


def test_the_teacher_is_exported_and_follows_by_a_momentum_on_a_straight_line() -> None:
    method = make(SMALL)
    before = [p.clone() for p in method.teacher.parameters()]
    drift(method)
    method.after_step(0.5)
    for old, new, student in zip(before, method.teacher.parameters(), method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.998 * old + 0.002 * student, rtol=1e-12, atol=1e-12)
    assert method.exported() is method.teacher.network


def test_the_monitor_sees_a_teacher_that_collapses() -> None:
    method = make(SMALL).eval()
    assert method.monitored(seen(method))["target_image_std"] > 0.1
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.zero_()
    assert method.monitored(seen(method))["target_std"] < 1e-6


def test_an_image_of_224_pixels_in_patches_of_16_is_cut_as_in_the_paper() -> None:
    method = make(SMALL, image_size=224, patch_size=16, depth=1)
    images, context, targets = method.views(pictures(), draw())
    assert images.shape == (BATCH, 1, 224, 224)
    assert targets.shape[:2] == (BATCH, 4)
    assert 27 <= targets.shape[2] <= 42
    assert 10 <= context.shape[1] <= 196 - targets.shape[2]


# Config


@pytest.mark.parametrize("patch", [8, 16])
def test_too_few_patches_are_refused(patch: int) -> None:
    with pytest.raises(UserError, match=rf"^i_jepa: encoder.image_size 16 is {16 // patch} x {16 // patch} patches, too few for a context and 4 targets"):
        make(SMALL, patch_size=patch)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"target_scale": [0.3, 0.2]}, r"target_scale \[0.3, 0.2\] must rise from above 0 to at most 1"),
        ({"context_scale": [0.5, 1.5]}, r"context_scale \[0.5, 1.5\] must rise from above 0 to at most 1"),
        ({"target_aspect": [0.0, 1.0]}, r"target_aspect \[0.0, 1.0\] must rise from above 0"),
        ({"predictor_width": 100}, "predictor_width 100 is not a multiple of predictor_heads 12"),
        ({"predictor_width": 30, "predictor_heads": 3}, "predictor_width 30 is not a multiple of 4"),
        ({"views": Views(count=2)}, "this method .* count must be 1"),
    ],
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        IJEPA(**config)
