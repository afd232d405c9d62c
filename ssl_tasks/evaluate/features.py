"""Features of an evaluation's images: made once for all protocols, and kept for the next evaluation of the same model and images.

A file a model and set of images, named by all that the numbers follow from. What was not used for longest goes first where they take
more room than they may. Rows are written as they are made and read where they are needed, so that memory is that of a batch.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.failures import versions

Floats = NDArray[np.float32]
NOT_FINITE = "cannot be judged: its features are not finite"
_BLOCK = 8192
"""Rows that are read at a time."""
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
    name = hashlib.sha256(json.dumps([identity, versions()], sort_keys=True).encode()).hexdigest()[:32]
    path = cache / "features" / f"{name}.npy"
    with suppress(OSError, ValueError):
        found: Floats = np.load(path, mmap_mode="r")
        if found.shape == shape:
            os.utime(path)
            return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".", suffix=".npy", dir=path.parent)
        os.close(handle)
        try:
            rows = np.lib.format.open_memmap(draft, "w+", np.float32, shape)
            make(rows)
            rows.flush()
            Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {np.prod(shape) * 4 / 1e6:,.1f} MB of features to {path.parent} ({error.strerror}): free space there") from error
    _prune(path, gigabytes)
    made: Floats = np.load(path, mmap_mode="r")
    return made


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
    """Remove the files that were used last longest ago, until the others are no larger than they may be."""
    files = sorted((p for p in newest.parent.glob("[!.]*.npy") if p != newest), key=lambda p: p.stat().st_mtime, reverse=True)
    room = gigabytes * 1e9 - newest.stat().st_size
    for path in files:
        room -= path.stat().st_size
        if room < 0:
            path.unlink(missing_ok=True)
