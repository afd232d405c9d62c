"""The store: every image of a manifest decoded once, into one memory-mapped array of equal squares."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import UserError
from ssl_tasks.data.containers import place, read_bytes
from ssl_tasks.data.images import Bands, Unreadable, open_image

VERSION = 1
"""Raised when the same file would give other pixels."""
_T = TypeVar("_T")
_R = TypeVar("_R")
_Picture = TypeVar("_Picture", bound=Image.Image | Bands)


def side_for(table: pa.Table, image_size: int) -> int:
    """Side of the squares to store for an encoder of `image_size`: 256/224 of it, but no larger than the largest image needs."""
    sides = [min(w, h) for w, h in zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True) if w and h]
    wanted = round(image_size * 256 / 224)
    return min(wanted, max(sides, default=wanted))


def open_store(table: pa.Table, workspace: Path, side: int, channels: int, cache: Path) -> NDArray[np.uint8]:
    """The images of `table` in its order, memory-mapped: uint8, (N, C, S, S).

    Each is made upright, resized so that its shorter side is `side` (antialiased), and centre-cropped. The array is cached by
    the images' hashes; a process that finds another one making the same array waits for it.

    Args:
        side: S.
        channels: C, 1 for grey, 3 for RGB, or that of all images.
        cache: folder of the cache.

    Raises:
        UserError: where an image cannot be decoded, is not what the manifest lists or has other channels, or the cache cannot be written.
    """
    path, shape = _place(table, side, channels, cache)
    found = _load(path, shape)
    if found is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            _make(path, shape, parallel(lambda row: square(*row, workspace, side, channels), _files(table)))
        except OSError as error:
            size = np.prod(shape, dtype=np.int64) / 1e6
            raise UserError(f"cannot write {size:,.1f} MB of decoded images to {cache} ({error.strerror}): free space there") from error
        found = np.load(path, mmap_mode="r")
    return found


def is_stored(table: pa.Table, side: int, channels: int, cache: Path) -> bool:
    """Whether `open_store` would find the images decoded."""
    return _load(*_place(table, side, channels, cache)) is not None


def squares(table: pa.Table, workspace: Path, side: int, channels: Literal[1, 3]) -> Iterator[NDArray[np.uint8]]:
    """The images of `table` one by one to look at, (C, S, S): grey or RGB, whatever they have."""
    return parallel(lambda row: pixels(centre_square(read_listed(*row, workspace), side), channels), _files(table))


def square(uri: str, sha256: str, workspace: Path, side: int, channels: int) -> NDArray[np.uint8]:
    """One listed image as `open_store` holds it, (C, S, S): grey becomes RGB and RGB grey; other numbers of channels must fit.

    Raises:
        UserError: see `read_listed`; or where the image has another number of channels.
    """
    return of_channels(centre_square(read_listed(uri, sha256, workspace), side), channels, uri, workspace)


def of_channels(image: Image.Image | Bands, channels: int, uri: str, workspace: Path) -> NDArray[np.uint8]:
    """A picture as an encoder of so many channels takes it, (C, H, W): grey becomes RGB and RGB grey; other numbers must fit.

    Raises:
        UserError: where it has another number of channels.
    """
    has = len(image.bands) if isinstance(image, Bands) else channels if channels in (1, 3) else len(image.getbands())
    if has != channels:
        raise UserError(f"image {place(uri, workspace)} has {has} channels, but encoder.channels is {channels}: make them the same")
    return np.stack([np.asarray(band) for band in image.bands]) if isinstance(image, Bands) else pixels(image, channels)


def _files(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["uri"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def read_listed(uri: str, sha256: str, workspace: Path) -> Image.Image | Bands:
    """The picture in a file that a manifest lists.

    Raises:
        UserError: where it gives no picture, or its bytes are no longer those that were listed.
    """
    try:
        return open_image(listed_bytes(uri, sha256, workspace))
    except Unreadable as error:
        where = place(uri, workspace)
        raise UserError(f"image {where} cannot be decoded ({error.reason}): let a curate stage with the step `integrity` remove it") from error


def listed_bytes(uri: str, sha256: str, workspace: Path) -> bytes:
    """The bytes of a file that a manifest lists.

    Raises:
        UserError: where they cannot be read, or are no longer those that were listed.
    """
    try:
        data = read_bytes(uri, workspace)
    except OSError as error:
        where, why = place(uri, workspace), error.strerror or error
        raise UserError(f"cannot read image {where} ({why}): put it back, or list the images again with `--force` on the ingest") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"image {place(uri, workspace)} has changed since it was listed: list the images again with `--force` on the ingest")
    return data


def centre_square(image: _Picture, side: int) -> _Picture:
    """The image with its shorter side resized to `side`, cropped to the square in its middle."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    if short == side:
        return image.crop((int(left), int(top), int(left) + side, int(top) + side))  # type: ignore[return-value]  # of either kind the same
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + short, top + short))  # type: ignore[return-value]  # likewise


def pixels(image: Image.Image | Bands, channels: int) -> NDArray[np.uint8]:
    """The image as uint8, (C, H, W): grey for one channel, else RGB."""
    if channels == 1:
        return np.asarray(image.convert("L"))[None]
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def parallel(function: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
    """`map` over a few threads, in order, a bounded stretch at a time; Pillow and hashing release the interpreter's lock."""
    stretch = 1024
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), stretch):
            yield from pool.map(function, items[start : start + stretch])


def _place(table: pa.Table, side: int, channels: int, cache: Path) -> tuple[Path, tuple[int, ...]]:
    hashes = "\n".join(table["sha256"].to_pylist())
    name = f"store-{hashlib.sha256(f'{VERSION}:{side}:{channels}:{hashes}'.encode()).hexdigest()[:24]}.npy"
    return cache / name, (len(table), channels, side, side)


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The cached array, or None where there is none or it was cut short."""
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return array if array.shape == shape else None


def _make(path: Path, shape: tuple[int, ...], rows: Iterator[NDArray[np.uint8]]) -> None:
    """Write the array to `path`, whole or not at all; of several processes that are asked to, one does and the others wait."""
    partial = path.with_suffix(".partial")
    with partial.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _load(path, shape) is not None:
            partial.unlink(missing_ok=True)
            return
        try:
            # Written in order, never through a map: on a full disk a write is an error, but a touched page kills the process.
            with partial.open("wb") as file:
                np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for row in rows:
                    file.write(row.tobytes())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            os.truncate(partial, 0)
            raise
