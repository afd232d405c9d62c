"""Which images make up each step, and reading them from the store or from their files."""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_tasks.distributed import rank, world_size

AHEAD = 3
"""Batches that are read before they are asked for."""


class Images(Protocol):
    """Images uint8 (N, C, S, S) of which rows can be taken: an array, a memory-mapped one, or `Files`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


def seed_of(*parts: int | str) -> int:
    """A seed that follows from all of `parts` and from nothing else: 63 bits, unrelated for unequal parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


class Batches:
    """Every step's images, as a function of the step alone: a resumed training needs no sampler state.

    Each epoch is its own seeded permutation, cut into whole batches; what is left over at its end is not seen in that epoch.
    A set smaller than a batch is one batch.

    Attributes:
        size: images a step over all ranks.
        own: which of a step's images are this rank's.
        per_epoch: steps an epoch.
    """

    def __init__(self, images: Images, batch_size: int, seed: int, device: torch.device) -> None:
        self.images, self.seed, self.device = images, seed, device
        self.size = min(batch_size, len(images))
        share = self.size // world_size()
        self.own = slice(rank() * share, (rank() + 1) * share)
        self.per_epoch = len(images) // self.size
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows of the store that all ranks train on in step `step`, rising, so that a disk is read in order."""
        epoch, batch = divmod(step, self.per_epoch)
        return np.sort(self._permutation(epoch)[batch * self.size : (batch + 1) * self.size])

    def read(self, step: int) -> Tensor:
        """This rank's images of a step, uint8 (B, C, S, S), on the device."""
        batch = torch.from_numpy(self.images[self.rows(step)[self.own]])
        return batch.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else batch

    def __call__(self, start: int, stop: int, ahead: bool) -> Iterator[tuple[int, Tensor]]:
        """Steps `start` to `stop` with their images.

        Args:
            ahead: whether a thread reads the next batches meanwhile, at most `AHEAD` of them. It pays where a GPU trains. On a CPU it
                gains nothing: a stored batch of 64 images of 256 px is read in 2.5 ms and trained on in seconds, and decoding from
                files would take the cores away from training.
        """
        if not ahead:
            yield from ((step, self.read(step)) for step in range(start, stop))
            return
        with ThreadPoolExecutor(1, "read") as thread:
            following = deque(thread.submit(self.read, step) for step in range(start, min(start + AHEAD, stop)))
            try:
                for step in range(start, stop):
                    batch = following.popleft().result()
                    if step + AHEAD < stop:
                        following.append(thread.submit(self.read, step + AHEAD))
                    yield step, batch
            finally:
                thread.shutdown(wait=True, cancel_futures=True)

    def _permute(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
