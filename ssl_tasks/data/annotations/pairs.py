"""Pairs of images with the same points in both: a JSON file that lists them, or drawn in code."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.annotations import Drawn, PointAnnotations
from schemas.annotations import Pairs as PairsConfig
from schemas.errors import UserError
from schemas.sources import is_address
from ssl_tasks.data import moving, store
from ssl_tasks.data.containers import parted, place, read_bytes
from ssl_tasks.data.images import Unreadable, from_array, open_image

_WORLD, _COUNT, _SIDE = 0, 40, 96
"""Of the drawn pairs: the same for every evaluation, so that their numbers can be compared."""

_KEYS = ("source", "target", "points")
_FORM = "{source: URI, target: URI, points: [[x, y, x', y'], ...]}"


@dataclass(frozen=True)
class Pair:
    """Two pictures, as an encoder takes them.

    Attributes:
        source, target: (C, H, W), each of its own size.
        points: (n, 4): x and y in the source, x and y of the same point in the target, in pixels from the upper left corner.
    """

    source: NDArray[np.uint8]
    target: NDArray[np.uint8]
    points: NDArray[np.float64]


def pairs(config: PointAnnotations, workspace: Path, channels: int) -> Iterator[Pair]:
    """The pairs that a config names, each read when it is asked for, as an encoder of so many channels takes them.

    Raises:
        UserError: where the file does not parse or names missing images, before the first pair; or where an image cannot be read,
            or a point lies outside its image.
    """
    if isinstance(config, Drawn):
        for number in range(_COUNT):
            drawn = _drawn(number)
            source, target = (store.of_channels(from_array(image), channels, f"drawn pair {number}", Path()) for image in drawn[:2])
            yield Pair(source, target, drawn.points)
        return
    assert isinstance(config, PairsConfig)
    path = workspace / config.file
    entries = _entries(path)
    uris = list(dict.fromkeys(entry[key] for entry in entries for key in _KEYS[:2]))
    missing = [uri for uri in uris if not is_address(uri) and not parted(uri)[0] and not (workspace / uri).is_file()]
    if missing:
        raise UserError(f"{path} names {len(missing)} of {len(uris)} images that are not there, first {place(missing[0], workspace)}")
    for number, entry in enumerate(entries):
        source, target = (_image(entry[key], workspace, channels) for key in _KEYS[:2])
        points = np.array(entry["points"], np.float64)
        for key, image, columns in (("source", source, points[:, :2]), ("target", target, points[:, 2:])):
            height, width = image.shape[1:]
            outside = ((columns < 0) | (columns > (width, height))).any(1)
            if outside.any():
                x, y = columns[outside][0]
                raise UserError(f"{path}, pair {number}: point ({x:g}, {y:g}) lies outside {place(entry[key], workspace)}, {width} x {height} pixels")
        yield Pair(source, target, points)


@cache
def _drawn(number: int) -> moving.DrawnPair:
    return moving.pair(_WORLD, number, _SIDE)


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); the path is relative to the workspace") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} must be a list of pairs, {_FORM}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(key in entry for key in _KEYS) or not all(isinstance(entry[key], str) for key in _KEYS[:2]):
            raise UserError(f"{path}, pair {number}: must be {_FORM}")
        if not _are_points(entry["points"]):
            raise UserError(f"{path}, pair {number}: points must be a list of four numbers each, [x, y, x', y'], at least one")
    return entries


def _are_points(value: object) -> bool:
    def is_point(point: object) -> bool:
        return isinstance(point, list) and len(point) == 4 and all(isinstance(n, int | float) and np.isfinite(n) for n in point)

    return isinstance(value, list) and len(value) > 0 and all(map(is_point, value))


def _image(uri: str, workspace: Path, channels: int) -> NDArray[np.uint8]:
    try:
        image = open_image(read_bytes(uri, workspace))
    except OSError as error:
        raise UserError(f"cannot read image {place(uri, workspace)} ({error.strerror or error})") from error
    except Unreadable as error:
        raise UserError(f"image {place(uri, workspace)} cannot be decoded ({error.reason}): replace it") from error
    return store.of_channels(image, channels, uri, workspace)
