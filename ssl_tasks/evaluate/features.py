"""Features of an evaluation's images: made once for all protocols, and kept for the next evaluation of the same model and images.

A file a model and set of images, named by all that the numbers follow from. What was not used for longest goes first where they take
more room than they may. Rows are written as they are made and read where they are needed: what of them lies in memory the system may
take back at any time, and the program's own memory is that of a batch. Of several processes that make the same file each writes its own
draft, whole, and the last one stays.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.failures import versions

Floats = NDArray[np.float32]
VERSION = 1
"""Raised when the same model and images would give other features."""
NOT_FINITE = "cannot be judged: its features are not finite"
_BLOCK = 8192
"""Rows that are read at a time."""
_LEFT = 86_400
"""Seconds after which a draft that nothing is written to is left over."""
_SAME = 1e-6
"""Share of the largest value below which differences are rounding: images of a batch are not computed in one order."""


def digest(values: Sequence[str]) -> str:
    """Of a list of texts, such as the hashes of images in their order."""
    return hashlib.sha256("\n".join(values).encode()).hexdigest()


def kept(cache: Path, identity: dict[str, Any], shape: tuple[int, int], make: Callable[[Floats], None], gigabytes: float) -> Floats:
    """Features (N, D), memory-mapped and read-only.

    Args:
        cache: folder of the workspace's cache.
        identity: what they follow from, as JSON values, besides the versions of what makes them.
        make: fills an array of `shape`; called where they are not kept.
        gigabytes: that all of them may take, these included however large they are.

    Raises:
        UserError: where they cannot be written.
    """
    name = hashlib.sha256(json.dumps([VERSION, identity, versions()], sort_keys=True).encode()).hexdigest()[:32]
    path = cache / "features" / f"{name}.npy"
    with suppress(OSError, ValueError, EOFError):
        found: Floats = np.load(path, mmap_mode="r")
        if found.shape == shape:
            os.utime(path)
            return found
    draft = _draft(path.parent, shape)
    try:
        rows = np.lib.format.open_memmap(draft, "r+")
        make(rows)
        rows.flush()
        made: Floats = np.load(draft, mmap_mode="r")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _prune(path, gigabytes)
    return made


def _draft(folder: Path, shape: tuple[int, int]) -> Path:
    """A file of zeros that has its room on the disk already: where a mapped page finds none, the process is killed."""
    size = int(np.prod(shape, dtype=np.int64)) * 4
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".npy", dir=folder)
        with open(handle, "wb") as file:
            try:
                np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                file.flush()
                os.posix_fallocate(file.fileno(), 0, file.tell() + size)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"cannot write {size / 1e6:,.1f} MB of features to {folder} ({error.strerror}): free space there") from error
    return Path(name)


def unfit(rows: Floats) -> str:
    """Why features (N, D) say nothing of their images, in words that follow a model's name; empty where they do. Reads a block at a time."""
    least = most = rows[:0].sum(0)
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(rows[start : start + _BLOCK])
        if not np.isfinite(block).all():
            return NOT_FINITE
        low, high = block.min(0), block.max(0)
        least, most = (np.minimum(least, low), np.maximum(most, high)) if start else (low, high)
    if len(rows) > 1 and (most - least).max() <= _SAME * max(np.abs(least).max(), np.abs(most).max()):
        return "cannot be judged: its features are the same for all images, the model has collapsed"
    return ""


def _prune(newest: Path, gigabytes: float) -> None:
    """Remove drafts that a killed process left, and the files that were used last longest ago, until the others are no larger than they may be."""
    drafts: list[tuple[float, int, Path]] = []
    files: list[tuple[float, int, Path]] = []
    for path in newest.parent.glob("*.npy"):
        with suppress(FileNotFoundError):  # another process removes it, too
            seen = path.stat()
            (drafts if path.name.startswith(".") else files).append((seen.st_mtime, seen.st_size, path))
    for written, _, path in drafts:
        if written < time.time() - _LEFT:
            path.unlink(missing_ok=True)
    room = gigabytes * 1e9
    for _, size, path in sorted(files, key=lambda file: (file[2] == newest, file[0]), reverse=True):
        room -= size
        if room < 0 and path != newest:
            path.unlink(missing_ok=True)
