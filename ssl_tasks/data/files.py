"""Images that are decoded from their files whenever a step asks for them: for sets that are too large to be stored decoded."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssl_tasks.data.store import is_stored, open_store, square


class Files:
    """What `open_store` gives, without the store: rows of it are decoded when they are taken, to the same pixels, bit for bit.

    Memory is that of the rows taken. Decoding is shared out among threads, one a core: Pillow works without the interpreter's lock.
    """

    def __init__(self, table: pa.Table, workspace: Path, side: int, channels: int) -> None:
        self.shape = (len(table), channels, side, side)
        self._workspace, self._files = workspace, list(zip(table["uri"].to_pylist(), table["sha256"].to_pylist(), strict=True))
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decode")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """Images of some rows: uint8 (rows, C, S, S).

        Raises:
            UserError: where one cannot be decoded, or is not what the manifest lists.
        """
        taken = np.arange(len(self))[rows]
        images = np.empty((len(taken), *self.shape[1:]), np.uint8)

        def decode(place: int) -> None:
            uri, sha256 = self._files[taken[place]]
            images[place] = square(uri, sha256, self._workspace, self.shape[2], self.shape[1])

        for _ in self._pool.map(decode, range(len(taken))):
            pass
        return images


def open_images(table: pa.Table, workspace: Path, side: int, channels: int, cache: Path, gigabytes: float) -> NDArray[np.uint8] | Files:
    """The images of `table`, uint8 (N, C, S, S): stored decoded where that takes at most so many gigabytes or is done already, else from files.

    Raises:
        UserError: see `open_store`.
    """
    if len(table) * channels * side * side <= gigabytes * 1e9 or is_stored(table, side, channels, cache):
        return open_store(table, workspace, side, channels, cache)
    return Files(table, workspace, side, channels)
