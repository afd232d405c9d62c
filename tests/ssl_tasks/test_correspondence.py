"""Keypoints found again by nearest patches: worlds in which the answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_world import SmallWorld, protocol
from torch.nn.functional import normalize

from ssl_tasks.data import moving
from ssl_tasks.evaluate.dense.correspondence import transfer, within
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply


def random_grid(seed: int, height: int = 12, width: int = 12) -> torch.Tensor:
    return normalize(torch.randn(64, height, width, generator=torch.Generator().manual_seed(seed)), dim=0)


def test_points_of_an_image_are_found_in_itself_to_half_a_patch() -> None:
    points = np.random.default_rng(0).uniform(0, 96, (200, 2))
    found = transfer(random_grid(0), random_grid(0), points, (96, 96), (96, 96))
    assert np.abs(found - points).max() <= 4 + 1e-9
    assert within(found, points, 0.1 * 96).mean() == 1


def test_a_shift_by_whole_patches_is_found() -> None:
    centres = np.array([[12.0, 20.0], [44.0, 60.0]])
    found = transfer(random_grid(0), random_grid(0).roll((2, 1), (1, 2)), centres, (96, 96), (96, 96))
    assert found == pytest.approx(centres + np.array([8, 16]))


def test_places_are_in_the_pixels_of_either_image() -> None:
    points = np.array([[103.0, 52.0], [22.0, 12.0]])  # of an image 120 wide and 60 high, on 12 x 6 patches
    found = transfer(random_grid(0, 6, 12), random_grid(0, 6, 12), points, (60, 120), (30, 240))
    assert found == pytest.approx(np.array([[210.0, 27.5], [50.0, 7.5]]))  # middles of the same patches, twice as wide and half as high


def test_random_features_are_right_by_chance() -> None:
    """By chance is the share of the target's patches whose middle lies near enough."""
    random = np.random.default_rng(1)
    points, truth = random.uniform(0, 96, (2, 400, 2))
    scores = [within(transfer(random_grid(2 * i), random_grid(2 * i + 1), points, (96, 96), (96, 96)), truth, 9.6).mean() for i in range(20)]
    middles = 8 * np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2) + 4.0
    chance = np.mean([within(middles, np.broadcast_to(point, middles.shape), 9.6).mean() for point in truth])
    assert 0.01 < chance < 0.05
    assert np.mean(scores) == pytest.approx(chance, abs=4 * np.std(scores) / 20**0.5)


def test_a_point_at_the_very_distance_is_found() -> None:
    assert within(np.array([[3.0, 4.0], [3.0, 4.1]]), np.zeros((2, 2)), 5.0).tolist() == [1, 0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("correspondence"))


def write(root: Path) -> dict[str, str]:
    """A picture and itself, with some of its points; gives the annotations."""
    pair = moving.pair(5, 0, 96)
    Image.fromarray(pair.source).save(root / "same.png")
    points = pair.points[:, :2]
    (root / "pairs.json").write_text(json.dumps([{"source": "same.png", "target": "same.png", "points": np.concatenate([points, points], 1).tolist()}]))
    return {"kind": "pairs", "file": "pairs.json"}


@pytest.mark.parametrize("name", ["vit", "convnet"])
def test_any_network_finds_the_points_of_an_image_in_itself(world: SmallWorld, name: str) -> None:
    (number,), (plate,) = apply(protocol("correspondence", annotations=write(world.workspace)), world.subject(name))
    assert number.values == [1.0]
    assert number.items is not None
    assert number.n == len(number.items) == len(moving.pair(5, 0, 96).points)
    assert "of 1 pairs are right within 0.1" in plate.caption


def test_what_does_not_parse_is_a_reason_and_no_traceback(world: SmallWorld) -> None:
    annotations = write(world.workspace)
    (world.workspace / "pairs.json").write_text("[{")
    with pytest.raises(Skipped, match=r"^cannot be judged: .*pairs.json is no JSON"):
        apply(protocol("correspondence", annotations=annotations), world.subject("vit"))
