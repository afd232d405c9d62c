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


def _prune(newest: Path, gigabytes: float) -> None:
    """Remove the files that were used last longest ago, until the others are no larger than they may be."""
    files = sorted((p for p in newest.parent.glob("[!.]*.npy") if p != newest), key=lambda p: p.stat().st_mtime, reverse=True)
    room = gigabytes * 1e9 - newest.stat().st_size
    for path in files:
        room -= path.stat().st_size
        if room < 0:
            path.unlink(missing_ok=True)
