"""Tiles and their orders: permutations far from each other, tiles that never touch their neighbours, and images too small for them."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from small_methods import ENCODERS, KNOWN_INSIDE
from tiny_training import make
from torch import Tensor

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.permutations import far_permutations
from ssl_tasks.data.tiles import Tiles, standardised
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.tiles import each_alone, side_for


def draw(samples: int, seed: int = 0) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), samples)


def distances(permutations: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hamming distances of all pairs."""
    first, second = np.triu_indices(len(permutations), 1)
    return (permutations[first] != permutations[second]).sum(axis=1)


# Permutations


@pytest.mark.parametrize(("count", "nearest"), [(9, 9), (100, 6), (1000, 5)])
def test_any_two_of_the_permutations_differ_in_many_places_and_on_average_in_as_many_as_can_be(count: int, nearest: int) -> None:
    """With every number in every place equally often, the average is the highest that there is; the paper has 8.00 and 2 for 1,000."""
    chosen = far_permutations(count).numpy()
    assert (np.sort(chosen, axis=1) == np.arange(9)).all()
    apart = distances(chosen)
    assert apart.min() == nearest
    often, left = divmod(count, 9)
    alike = 9 * ((9 - left) * often * (often - 1) / 2 + left * (often + 1) * often / 2)
    highest = 9 - alike / len(apart)
    assert highest * 0.9999 < apart.mean() <= highest + 1e-12


def test_the_same_permutations_come_every_time_and_fewer_are_the_first_of_more() -> None:
    spoilt = far_permutations(100)
    before = spoilt.clone()
    spoilt.zero_()
    assert torch.equal(far_permutations(100), before)
    assert torch.equal(far_permutations(10), before[:10])


def test_each_next_permutation_is_as_far_as_any_from_those_before() -> None:
    every = np.array(list(itertools.permutations(range(5))))
    chosen = far_permutations(30, items=5).numpy()
    for i in range(1, 30):
        apart = (every[:, None] != chosen[:i]).sum(axis=2)
        best = max(zip(apart.min(axis=1), apart.sum(axis=1), strict=True))
        own = (chosen[i] != chosen[:i]).sum(axis=1)
        assert (own.min(), own.sum()) == best


# Where tiles lie


def as_it_is(side: int) -> int:
    return side


ANYWHERE, APART = (11 / 64, None), (0.5, 7 / 96)
"""Gap and jitter of a jigsaw, whose tiles lie anywhere in their cells, and of neighbouring patches."""


@pytest.mark.parametrize(("spacing", "size", "smallest", "mean"), [(ANYWHERE, 225, 0, 11), (APART, 432, 34, 48), (ANYWHERE, 16, 0, 1), (APART, 16, 1, 2)])
def test_gaps_between_tiles_are_the_papers(spacing: Any, size: int, smallest: int, mean: int) -> None:
    """225 px for tiles of 64 in cells of 75; 3 x 144 px for patches of 96 that are 48 apart and move by 7."""
    tiles = Tiles.of("jigsaw", size, as_it_is, *spacing)
    corners = tiles.corners(draw(4000)).view(-1, 3, 3, 2)
    assert {225: 64, 432: 96, 16: 4 if spacing == ANYWHERE else 3}[size] == tiles.side
    gaps = (corners[:, :, 1:, 1] - corners[:, :, :-1, 1] - tiles.side).double()
    assert gaps.min() == smallest
    assert_allclose(gaps.mean(), mean, rtol=0.03)
    assert corners.min() >= 0
    assert corners.max() + tiles.side <= size


@pytest.mark.parametrize("size", range(15, 60))
@pytest.mark.parametrize("spacing", [ANYWHERE, APART], ids=["anywhere", "apart"])
def test_tiles_stay_in_their_cells_move_both_ways_and_leave_a_gap(spacing: Any, size: int) -> None:
    tiles = Tiles.of("jigsaw", size, as_it_is, *spacing)
    corners = tiles.corners(draw(200)).view(-1, 3, 3, 2)
    cell = (torch.arange(3) * tiles.cell + tiles.margin).view(1, 3, 1)
    inside = torch.stack([corners[..., 0] - cell, corners[..., 1].mT - cell])  # down, and across
    assert (inside >= 0).all()
    assert (inside + tiles.side <= tiles.cell).all()
    assert len(inside.unique()) == tiles.play + 1 >= 2
    if spacing is APART:
        assert (corners[:, 1:, :, 0] - corners[:, :-1, :, 0]).min() > tiles.side


def test_a_tile_has_the_very_pixels_of_its_place() -> None:
    tiles = Tiles.of("jigsaw", 16, as_it_is, *ANYWHERE)
    crops = torch.arange(2 * 3 * 16 * 16.0).view(2, 3, 16, 16)
    corners = tiles.corners(draw(2))
    cut = tiles.cut(crops, corners)
    assert cut.shape == (2, 9, 3, 4, 4)
    for image, tile in itertools.product(range(2), range(9)):
        top, left = corners[image, tile].tolist()
        assert torch.equal(cut[image, tile], crops[image, :, top : top + 4, left : left + 4])


def test_what_tells_a_tiles_place_by_brightness_and_contrast_alone_is_gone() -> None:
    tiles = torch.rand(2, 9, 3, 8, 8, dtype=torch.float64)
    ours = standardised(tiles)
    assert_allclose(ours.mean(dim=(-2, -1)), 0, atol=1e-12)
    assert_allclose(ours.std(dim=(-2, -1)), 1, atol=0.01)
    lit = tiles * torch.rand(2, 9, 3, 1, 1).double().add(0.5) + torch.rand(2, 9, 3, 1, 1).double()
    assert_allclose(standardised(lit), ours, atol=0.02)
    assert torch.equal(standardised(torch.ones(1, 9, 3, 8, 8)), torch.zeros(1, 9, 3, 8, 8))


# What an encoder sees of them


@pytest.mark.parametrize(("name", "side", "seen"), [("vit", 3, 4), ("vit", 4, 4), ("vit", 7, 8), ("vit", 1, 0), ("convnet", 3, 3), ("convnet", 5, 5)])
def test_an_encoder_sees_a_tile_as_it_is_or_in_whole_patches(name: str, side: int, seen: int) -> None:
    encoder = TimmEncoder(ENCODERS[name])
    assert side_for(encoder, side) == seen
    if seen:
        assert each_alone(encoder, torch.rand(2, 9, 1, seen, seen)).shape == (2, 9, encoder.dim)


@pytest.mark.parametrize(
    "encoder", [KNOWN_INSIDE["convnextv2"], Encoder(name="mixer_s32_224", image_size=64, channels=1)], ids=["too deep for a tile", "of one size only"]
)
def test_an_encoder_that_takes_no_tile_of_its_size_gets_it_at_its_own(encoder: Encoder) -> None:
    method: Any = make(configs.Jigsaw(permutations=10, branch=8, hidden=16), encoder)
    assert method.tiles.side < method.tiles.shown == encoder.image_size
    tiles = method.views(torch.zeros(2, 1, 18, 18, dtype=torch.uint8), draw(2))[1]
    assert tiles.shape == (2, 9, 1, encoder.image_size, encoder.image_size)
    assert method.told(tiles).shape == (2, 10)


def test_asking_what_an_encoder_takes_leaves_it_as_it_was() -> None:
    encoder = TimmEncoder(Encoder(name="resnet10t", image_size=32, channels=1)).train()
    before: dict[str, Tensor] = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert side_for(encoder, 9) == 9
    assert encoder.training
    assert all(module.training for module in encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("member", [configs.RelativePatch, configs.Jigsaw, configs.PIRL])
@pytest.mark.parametrize(("name", "size", "patch"), [("vit", 32, 32), ("vit", 8, 8), ("convnet", 8, None)])
def test_images_too_small_for_tiles_are_refused_in_one_line(member: Any, name: str, size: int, patch: int | None) -> None:
    encoder = ENCODERS[name].model_copy(update={"image_size": size, "patch_size": patch})
    config = member()
    with pytest.raises(UserError) as error:
        make(config, encoder)
    assert str(error.value) == (
        f"{config.kind}: encoder.image_size {size} is too small for 3 x 3 tiles with gaps between them: make it larger, or take an encoder with smaller patches"
    )
