"""Nearest neighbours, exact, among more images than fit into memory.

Bank and queries are read a block at a time, so that they may be memory-mapped files; of each query only the nearest so far are kept.
At most `_QUERIES` x `_BANK` scores are held at once: 64 MB, and beside them a block of the bank (25 MB at 384 dimensions), however large it is.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

_QUERIES = 1024
_BANK = 16_384


class Rows:
    """Some rows of features, (N, D), read when they are asked for: of a memory-mapped file no more than a block at a time."""

    def __init__(self, features: Floats, rows: Ints) -> None:
        self._features, self._rows = features, rows
        self.shape = (len(rows), features.shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, some: slice | Ints) -> Floats:
        return self._features[self._rows[some]]


def neighbours(bank: Floats | Rows, queries: Floats | Rows, k: int, device: str = "cpu") -> tuple[Floats, Ints]:
    """Cosine similarities and bank rows of each query's k nearest, nearest first, each (Q, k).

    Which of equally near rows are among the k is left open, but the same each time.

    Args:
        k: at most as many as the bank has rows.
    """
    assert k <= len(bank), f"{k} neighbours of {len(bank)} rows"
    best, rows = torch.full((len(queries), k), -torch.inf), torch.zeros((len(queries), k), dtype=torch.int64)
    for low, references in blocks(bank, _BANK, device):
        for start, asked in blocks(queries, _QUERIES, device):
            mine = slice(start, start + len(asked))
            near = torch.topk(asked @ references.T, min(k, len(references)))
            scores = torch.cat([best[mine].to(device), near.values], dim=1)
            found = torch.cat([rows[mine].to(device), near.indices + low], dim=1)
            order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]
            best[mine], rows[mine] = scores.gather(1, order).cpu(), found.gather(1, order).cpu()
    return best.numpy(), rows.numpy()


def blocks(features: Floats | Rows, size: int, device: str) -> Iterator[tuple[int, Tensor]]:
    """The rows brought to length 1, so many at a time, each time with the number of the first."""
    for start in range(0, len(features), size):
        yield start, unit(taken(features, slice(start, start + size), device))


def taken(features: Floats | Rows, some: slice | Ints, device: str) -> Tensor:
    """Some rows in float32, of their own: the features do not change with them."""
    return torch.from_numpy(np.array(features[some], np.float32, copy=None if isinstance(features, Rows) else True)).to(device)


def unit(vectors: Tensor) -> Tensor:
    """Rows brought to length 1 in place, which is several times faster than anew; those of zeros stay."""
    return vectors.div_(torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min_(1e-12))
