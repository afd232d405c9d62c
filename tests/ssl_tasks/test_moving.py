"""Shapes that move, and the loaders of videos and of pairs: what is drawn is known exactly, and each fault of a file is told in a line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from schemas.annotations import Drawn, Pairs, Videos
from schemas.errors import UserError
from ssl_tasks.data import moving
from ssl_tasks.data.annotations.pairs import pairs
from ssl_tasks.data.annotations.videos import videos

VIDEOS = Videos(frames="frames", masks="masks")
PAIRS = Pairs(file="pairs.json")


@pytest.mark.parametrize("index", range(4))
def test_a_video_is_a_function_of_its_number_and_its_ground_holds_still(index: int) -> None:
    video, again = moving.video(3, index, 48, 5), moving.video(3, index, 48, 5)
    assert np.array_equal(video.frames, again.frames)
    assert np.array_equal(video.masks, again.masks)
    assert video.frames.shape == (5, 48, 48, 3)
    assert len(np.unique(video.masks[0])) in (3, 4)  # the ground and two or three shapes, all seen in the first frame
    moved = [np.abs(np.argwhere(video.masks[0] == n).mean(0) - np.argwhere(video.masks[4] == n).mean(0)).max() for n in (1, 2)]
    assert min(moved) > 2
    corners = video.frames[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # beyond any shape and its shadow
    assert (corners == corners[0]).all()


@pytest.mark.parametrize("index", range(6))
def test_points_of_a_pair_lie_on_the_same_shape(index: int) -> None:
    pair = moving.pair(0, index, 96)
    assert 4 <= len(pair.points) <= 12
    assert ((pair.points > 0) & (pair.points < 96)).all()
    here, there = np.split(pair.points, 2, axis=1)
    spread = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (here, there)]
    ratio = spread[1][spread[0] > 0] / spread[0][spread[0] > 0]
    assert ratio == pytest.approx(ratio[0])  # all of them moved by one scale and one shift
    assert 0.8 <= ratio[0] <= 1.15
    assert not np.array_equal(pair.source[0, 0], pair.target[0, 0])  # another ground


def test_drawn_videos_and_pairs_are_the_same_for_every_evaluation(tmp_path: Path) -> None:
    first, again = (videos(Drawn(), tmp_path) for _ in range(2))
    assert [video.name for video in first] == [f"drawn {n}" for n in range(8)]
    assert np.array_equal(first[2].frame(1, 3), again[2].frame(1, 3))
    assert first[0].frame(0, 1).shape == (1, 96, 96)
    assert next(pairs(Drawn(), tmp_path, 3)).source.shape == (3, 96, 96)
    assert sum(1 for _ in pairs(Drawn(), tmp_path, 1)) == 40


def save(path: Path, values: Any, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image = image.convert("P")
        image.putdata(np.asarray(values).ravel().tolist())
        image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(path)


def write_video(root: Path, frames: int = 3, name: str = "car") -> None:
    for number in range(frames):
        save(root / "frames" / name / f"{number:05d}.jpg", np.full((6, 8, 3), 40 * number))
        save(root / "masks" / name / f"{number:05d}.png", np.tri(6, 8), palette=True)


def test_folders_are_read_as_davis_has_them(tmp_path: Path) -> None:
    write_video(tmp_path)
    (tmp_path / "masks/car/00001.png").unlink()
    save(tmp_path / "frames/nobody/00000.png", np.zeros((4, 4, 3)))  # without masks: not judged
    (video,) = videos(VIDEOS, tmp_path)
    assert (video.name, len(video)) == ("car", 3)
    assert video.frame(1, 3).shape == (3, 6, 8)
    mask = video.mask(2)
    assert mask is not None
    assert np.array_equal(mask, np.tri(6, 8))  # numbers, not colours
    assert video.mask(1) is None


def no_masks(root: Path) -> None:
    for path in (root / "masks/car").iterdir():
        path.unlink()
    (root / "masks/car").rmdir()


def no_frames(root: Path) -> None:
    for path in (root / "frames/car").iterdir():
        path.unlink()


FAULTS: list[tuple[Any, str]] = [
    (no_frames, r"video folder .*frames/car has no frames; put one image a frame there"),
    (no_masks, r".*/masks holds no folder of masks; it needs one a video"),
    (lambda root: (root / "masks/car/00000.png").unlink(), r".*masks/car has no mask of the first frame, 00000.jpg"),
    (lambda root: save(root / "masks/car/9.png", np.zeros((6, 8))), r".*masks/car/9.png is of no frame in .*frames/car"),
    (lambda root: (root / "frames").rename(root / "films"), r"no folder of videos .*frames"),
    (lambda root: save(root / "masks/car/00000.png", np.zeros((8, 6))), r".*00000.png is 6 x 8 pixels, but its frame .*00000.jpg 8 x 6: make them the same"),
    (lambda root: save(root / "masks/car/00000.png", np.zeros((6, 8, 3))), r".*00000.png has colours \(RGB\)"),
    (lambda root: (root / "frames/car/00000.jpg").write_bytes(b"\xff\xd8\xff0"), r"frame .*00000.jpg cannot be decoded"),
]


@pytest.mark.parametrize(("spoil", "line"), FAULTS)
def test_a_damaged_video_is_told_in_a_line(tmp_path: Path, spoil: Any, line: str) -> None:
    write_video(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=line) as raised:
        [(video.frame(0, 3), video.mask(0)) for video in videos(VIDEOS, tmp_path)]
    assert "\n" not in str(raised.value)


def write_pair(root: Path, **entry: Any) -> None:
    for name in ("a.png", "b.png"):
        save(root / name, np.zeros((6, 8, 3)))
    (root / "pairs.json").write_text(json.dumps([{"source": "a.png", "target": "b.png", "points": [[1, 2, 3, 4.5]], **entry}]))


def test_pairs_are_read_from_json(tmp_path: Path) -> None:
    write_pair(tmp_path)
    (pair,) = pairs(PAIRS, tmp_path, 3)
    assert pair.source.shape == pair.target.shape == (3, 6, 8)
    assert pair.points.tolist() == [[1, 2, 3, 4.5]]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"target": "c.png"}, r".*pairs.json names 1 of 2 images that are not there, first .*c.png"),
        ({"points": [[9, 2, 3, 4]]}, r".*pair 0: point \(9, 2\) lies outside .*a.png, 8 x 6 pixels"),
        ({"points": [[1, 2, 3, -1]]}, r".*pair 0: point \(3, -1\) lies outside .*b.png, 8 x 6 pixels"),
        ({"points": [[1, 2, 3]]}, r".*pair 0: points must be a list of four numbers each"),
        ({"points": []}, r".*pair 0: points must be"),
        ({"points": [[1, 2, 3, float("nan")]]}, r".*pair 0: points must be"),
        ({"source": 3}, r".*pair 0: must be \{source: URI"),
    ],
)
def test_a_faulty_pair_is_told_in_a_line(tmp_path: Path, entry: dict[str, Any], line: str) -> None:
    write_pair(tmp_path, **entry)
    with pytest.raises(UserError, match=line) as raised:
        list(pairs(PAIRS, tmp_path, 3))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"), [("[{", "is no JSON"), ("{}", "must be a list of pairs"), ("[]", "must be a list of pairs"), ("[1]", "pair 0: must be")]
)
def test_a_file_that_lists_no_pairs_is_told_in_a_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(UserError, match=line):
        list(pairs(PAIRS, tmp_path, 3))
    with pytest.raises(UserError, match=r"cannot read .*nowhere.json \(No such file"):
        list(pairs(Pairs(file="nowhere.json"), tmp_path, 3))
