"""Masks: exactly as many patches as are asked for, of the shape that the name says, from a draw that ranks share."""

import math
from collections.abc import Callable

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import ASPECT, MASKS, block_masks, even_counts, inverse_block_masks, random_masks

GRID, SAMPLES = 14, 400
Masking = Callable[[Draw, int, Tensor], Tensor]
every_shape = pytest.mark.parametrize("masking", MASKS.values(), ids=MASKS)


def draw(samples: int = SAMPLES, seed: int = 0, own: slice = slice(None)) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), samples, own)


def maps(masking: Masking, count: int, grid: int = GRID, samples: int = SAMPLES) -> Tensor:
    """Masks (samples, grid, grid) of `count` patches each."""
    return masking(draw(samples), grid, torch.full((samples,), count)).view(samples, grid, grid)


def extents(mask: Tensor) -> tuple[int, int]:
    """Height and width of the smallest rectangle that holds all that is true."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def edges(masks: Tensor) -> float:
    """Pairs of neighbours of which one is masked and one is not, mean over samples: the fewer, the more compact the mask."""
    across, down = masks[:, :, 1:] ^ masks[:, :, :-1], masks[:, 1:] ^ masks[:, :-1]
    return float((across.sum() + down.sum()) / len(masks))


@every_shape
@pytest.mark.parametrize("grid", [2, 4, 7, 14])
def test_every_mask_has_exactly_as_many_patches_as_asked_for(masking: Masking, grid: int) -> None:
    counts = torch.arange(grid * grid + 1)
    masks = masking(draw(len(counts)), grid, counts)
    assert masks.dtype == torch.bool
    assert masks.shape == (len(counts), grid * grid)
    assert torch.equal(masks.sum(dim=1), counts)


@every_shape
def test_ranks_get_their_rows_of_what_one_process_draws(masking: Masking) -> None:
    ratio = (0.1, 0.5)
    whole = draw(12)
    expected = masking(whole, 7, even_counts(whole, 49, 0.5, ratio))
    for own in (slice(0, 6), slice(6, 12)):
        part = draw(12, own=own)
        assert torch.equal(masking(part, 7, even_counts(part, 49, 0.5, ratio)), expected[own])


@every_shape
def test_another_seed_masks_other_patches(masking: Masking) -> None:
    counts = torch.full((8,), 40)
    assert torch.equal(masking(draw(8), GRID, counts), masking(draw(8), GRID, counts))
    assert not torch.equal(masking(draw(8), GRID, counts), masking(draw(8, seed=1), GRID, counts))


@pytest.mark.parametrize("masking", [random_masks, inverse_block_masks])
def test_no_place_is_masked_more_often_than_another(masking: Masking) -> None:
    """Within five standard deviations of a fair coin; CAPI's block wraps around, so that edges are no exception."""
    share = 0.3
    often = maps(masking, round(share * GRID**2), samples=3000).float().mean(dim=0)
    assert (often - share).abs().max() < 5 * math.sqrt(share * (1 - share) / 3000)


def test_blocks_reach_every_place_and_the_middle_more_often() -> None:
    often = maps(block_masks, 60, samples=1000).float().mean(dim=0)
    assert often.min() > 0.01
    assert often[5:9, 5:9].mean() > 1.5 * often[0, [0, -1]].mean()


def test_blocks_are_more_compact_than_random_patches() -> None:
    for count in (20, 59, 98):
        assert edges(maps(block_masks, count)) < 0.6 * edges(maps(random_masks, count))


def test_half_of_the_masks_of_four_patches_are_one_block_of_four_upright_square_or_lying() -> None:
    """The other sides that aspects between 0.3 and 3.3 round to make three or six patches: too few, or left out as too many."""
    shapes = [extents(mask) for mask in maps(block_masks, 4)]
    blocks = [shape for shape in shapes if math.prod(shape) == 4]
    assert 0.4 < len(blocks) / SAMPLES < 0.6
    assert set(blocks) == {(2, 2), (1, 4), (4, 1)}


def test_what_an_inverse_block_leaves_is_one_block_that_may_wrap_around() -> None:
    masks = maps(inverse_block_masks, 127)
    for mask in masks[:50]:
        rolled = min((math.prod(extents(~mask.roll((down, across), (0, 1)))) for down in range(GRID) for across in range(GRID)), default=0)
        assert rolled <= 1.35 * (GRID**2 - 127)


def test_aspects_of_what_is_left_are_even_between_the_extremes_in_their_logarithm() -> None:
    """Blocks of 16 of 400 patches have room for every aspect; sides are whole, so that thirds of the range are compared."""
    seen = []
    for mask in maps(inverse_block_masks, 400 - 16, grid=20, samples=600):
        height, width = min((extents(~mask.roll((down, across), (0, 1))) for down in (0, 10) for across in (0, 10)), key=math.prod)
        seen.append(math.log(height / width))
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    third = (high - low) / 6
    shares = [sum(value < -third for value in seen) / len(seen), sum(value > third for value in seen) / len(seen)]
    assert_allclose(shares, [1 / 3, 1 / 3], atol=0.12)


@pytest.mark.parametrize("samples", [16, 64, 256])
def test_exactly_the_asked_share_of_the_whole_batch_is_masked(samples: int) -> None:
    assert even_counts(draw(samples), 196, 0.5, (0.1, 0.5)).count_nonzero() == samples // 2


def test_the_shares_of_a_batch_are_spread_evenly_over_the_range() -> None:
    counts = even_counts(draw(64), 10000, 0.5, (0.1, 0.5))
    shares = (counts[counts > 0] / 10000).sort().values
    strata = 0.1 + 0.4 * torch.arange(33) / 32
    assert ((shares >= strata[:-1] - 1e-4) & (shares <= strata[1:])).all()


def test_of_a_few_images_at_least_one_and_of_its_patches_at_least_one_is_masked() -> None:
    for seed in range(10):
        assert even_counts(draw(2, seed), 4, 0.1, (0.1, 0.1)).sort().values.tolist() == [0, 1]


def test_every_image_is_masked_as_often_as_another() -> None:
    often = torch.stack([even_counts(draw(8, seed), 100, 0.5, (0.1, 0.5)) > 0 for seed in range(800)]).float().mean(dim=0)
    assert (often - 0.5).abs().max() < 5 * math.sqrt(0.25 / 800)
