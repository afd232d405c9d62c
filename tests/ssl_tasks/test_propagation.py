"""Masks carried through videos by patches: J and F from their definitions, and worlds in which the answer is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from small_world import SmallWorld, protocol
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from ssl_tasks.evaluate.dense.carrying import decide, propagate
from ssl_tasks.evaluate.dense.grids import grid
from ssl_tasks.evaluate.dense.mask_scores import boundary, region
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply

SETTINGS: dict[str, Any] = {"context": 3, "neighbours": 5, "radius": 12, "temperature": 0.1}
Mask = NDArray[np.bool_]


def block(top: int, left: int, side: int = 6, size: int = 16) -> Mask:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_similarity_is_the_intersection_over_the_union() -> None:
    assert region(block(2, 2), block(2, 2)) == 1
    assert region(block(2, 2), block(2, 5)) == pytest.approx(18 / 54)
    assert region(block(0, 0), block(9, 9)) == 0
    empty = np.zeros((16, 16), bool)
    assert (region(empty, empty), region(empty, block(1, 1))) == (1, 0)


def brute_boundary(found: Mask, truth: Mask) -> float:
    """F as DAVIS defines it, pixel by pixel."""

    def edge(mask: Mask) -> list[tuple[int, int]]:
        height, width = mask.shape
        others = [(0, 1), (1, 0), (1, 1)]
        return [
            (y, x) for y in range(height) for x in range(width) if any(mask[y, x] != mask[min(y + dy, height - 1), min(x + dx, width - 1)] for dy, dx in others)
        ]

    reach = math.ceil(0.008 * math.hypot(*found.shape))
    ours, theirs = edge(found), edge(truth)
    if not ours or not theirs:
        return float(not ours and not theirs)

    def share(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> float:
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in b) for y, x in a) / len(a)

    precision, recall = share(ours, theirs), share(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_boundary_measure_is_that_of_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    blobs = [np.kron(random.random((5, 6)) < 0.4, np.ones((4, 4))).astype(bool) for _ in range(2)]
    assert boundary(*blobs) == pytest.approx(brute_boundary(*blobs), abs=1e-12)


def test_a_boundary_may_be_off_by_its_tolerance_and_no_more() -> None:
    size = 200  # its diagonal of 283 pixels allows 3
    truth = block(60, 60, 80, size)
    assert boundary(block(60, 63, 80, size), truth) == 1
    assert boundary(block(60, 64, 80, size), truth) < 0.8
    empty = np.zeros((size, size), bool)
    assert (boundary(empty, empty), boundary(empty, truth), boundary(truth, empty)) == (1, 0, 0)


def shares(numbers: NDArray[np.int64], count: int) -> Tensor:
    return one_hot(torch.from_numpy(numbers), count).permute(2, 0, 1).float()


def carried(frames: list[Tensor], mask: NDArray[np.int64], count: int = 3, **settings: Any) -> list[NDArray[np.int64]]:
    said = propagate(frames, shares(mask, count), **{**SETTINGS, **settings})
    return [decide(masks, mask.shape) for masks in said]  # type: ignore[arg-type]  # a height and a width


def objects() -> NDArray[np.int64]:
    return (block(1, 1) + 2 * block(8, 7)).astype(np.int64)


def test_a_still_video_keeps_its_masks_where_features_tell_pixels_apart() -> None:
    pixels = normalize(torch.randn(256, 16, 16, generator=torch.Generator().manual_seed(0)), dim=0)
    for found in carried([pixels] * 5, objects()):
        assert np.array_equal(found, objects())


def test_features_that_are_the_masks_themselves_carry_them_exactly() -> None:
    moved = [np.roll(objects(), (t, 2 * t), (0, 1)) for t in range(3)]
    for found, truth in zip(carried([shares(m, 3) for m in moved], objects(), temperature=0.02), moved[1:], strict=True):
        assert np.array_equal(found, truth)


def test_what_moves_by_a_pixel_is_followed() -> None:
    ground = normalize(torch.randn(64, 16, 16, generator=torch.Generator().manual_seed(1)), dim=0)
    frames = [ground.roll((t, t), (1, 2)) for t in range(4)]
    for t, found in enumerate(carried(frames, objects(), radius=2, neighbours=1), start=1):
        assert np.array_equal(found[t:, t:], np.roll(objects(), (t, t), (0, 1))[t:, t:])


def test_nothing_beyond_the_radius_is_looked_at() -> None:
    ground = normalize(torch.randn(64, 16, 16, generator=torch.Generator().manual_seed(1)), dim=0)
    jump = [ground, ground.roll(8, 2)]
    truth = np.roll(objects(), 8, 1)
    assert np.array_equal(carried(jump, objects(), radius=15, neighbours=1)[0], truth)
    assert not np.array_equal(carried(jump, objects(), radius=3, neighbours=1)[0], truth)


@pytest.mark.parametrize(("context", "neighbours", "radius"), [(1, 3, 2), (2, 5, 1), (7, 4, 9)])
def test_a_patch_takes_the_weighted_mean_of_its_neighbours(context: int, neighbours: int, radius: int) -> None:
    generator = torch.Generator().manual_seed(2)
    frames = [normalize(torch.randn(4, 5, 6, generator=generator), dim=0) for _ in range(5)]
    first = torch.rand(2, 5, 6, generator=generator)
    found = list(propagate(frames, first, context, neighbours, radius, 0.2))
    known = [first.double().numpy()]
    for t in range(1, len(frames)):
        sources = [0, *range(max(1, t - context), t)]
        masks = np.zeros((2, 5, 6))
        for y, x in np.ndindex(5, 6):
            rivals = [
                (float(frames[t][:, y, x].double() @ frames[s][:, v, u].double()), s, v, u)
                for s in sources
                for v, u in np.ndindex(5, 6)
                if max(abs(v - y), abs(u - x)) <= radius
            ]
            best = sorted(rivals, reverse=True)[:neighbours]
            weights = np.exp([similarity / 0.2 for similarity, *_ in best])
            masks[:, y, x] = sum(w * known[s][:, v, u] for w, (_, s, v, u) in zip(weights / weights.sum(), best, strict=True))
        known.append(masks)
        assert found[t - 1].numpy() == pytest.approx(masks, abs=1e-5)


def test_memory_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [normalize(torch.randn(8, 6, 6, generator=torch.Generator().manual_seed(i)), dim=0) for i in range(3)]
    first = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(9))
    whole = list(propagate(frames, first, **SETTINGS))
    monkeypatch.setattr("ssl_tasks.evaluate.dense.carrying._BLOCK", 100)
    for a, b in zip(whole, propagate(frames, first, **SETTINGS), strict=True):
        torch.testing.assert_close(a, b)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("propagation"))


@pytest.mark.parametrize("name", ["vit", "convnet"])
def test_an_image_of_any_size_becomes_a_grid_of_patches(world: SmallWorld, name: str) -> None:
    subject = world.subject(name)
    image = np.random.default_rng(0).integers(0, 256, (3, 45, 70), dtype=np.uint8)
    assert grid(subject, image, 8, None).shape[1:] == (6, 9)
    features = grid(subject, image, 8, 90)
    assert features.shape[1:] == (11, 18)
    torch.testing.assert_close(features.norm(dim=0), torch.ones(11, 18))


def write(root: Path, name: str, masks: list[NDArray[np.int64]]) -> dict[str, Any]:
    """A still video with these masks; gives the annotations."""
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for number, mask in enumerate(masks):
        for kind, values in (("frames", picture), ("masks", mask.astype(np.uint8))):
            (root / name / kind / "still").mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / name / kind / "still" / f"{number}.png")
    return {"kind": "videos", "frames": f"{name}/frames", "masks": f"{name}/masks"}


def still() -> NDArray[np.int64]:
    mask = np.zeros((48, 64), np.int64)
    mask[8:32, 8:40] = 1
    mask[32:48, 48:64] = 3
    return mask


def test_scores_are_of_single_objects_between_the_first_and_the_last_frame(world: SmallWorld) -> None:
    wrong = np.zeros_like(still())
    annotations = write(world.workspace, "judged", [still(), still(), np.where(np.arange(64) < 32, 255, still()), wrong])
    numbers, plates = apply(protocol("propagation", annotations=annotations, temperature=0.005), world.subject("vit"))
    by = {number.metric: number for number in numbers}
    assert by["j"].n == 2
    items = {metric: number.items for metric, number in by.items()}
    assert items["j"] is not None
    assert items["f"] is not None
    assert items["jf"] == pytest.approx((items["j"] + items["f"]) / 2)
    assert items["j"].min() > 0.6  # masks of whole patches, of a video that stands still; the last frame's, which are wrong, are not asked
    assert len(plates) == 1


def test_videos_that_cannot_be_judged_are_told_in_a_line(world: SmallWorld) -> None:
    annotations = write(world.workspace, "short", [still(), still()])
    with pytest.raises(Skipped, match=r"video 'still' has no mask between its first and its last frame, where masks are judged; it has 2 frames"):
        apply(protocol("propagation", annotations=annotations), world.subject("vit"))
    annotations = write(world.workspace, "blank", [np.zeros_like(still())] * 3)
    with pytest.raises(Skipped, match=r"the first mask of video 'still' shows no object"):
        apply(protocol("propagation", annotations=annotations), world.subject("vit"))
