"""Ranks of all images that answer a query, in a gallery of any size, without the scores of all pairs at once.

What a ranking is worth follows from the ranks of its answers alone. The rank of an answer is one more than the answers and the others
before it: the scores of the former are held and sorted, the latter are counted a stretch of the gallery at a time. Others that score as
much as an answer stand before it. Shapes: Q queries, G gallery images, B queries of a block, P answers of the query that has most,
D dimensions.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_tasks.evaluate.neighbours import Floats, Ints, Rows, taken, unit

Metric = Literal["cosine", "euclidean"]
QUERIES, VECTORS = 256, 16_384
"""Queries that are ranked for at once, and gallery features that are read at once."""
SCORES = 8_000_000
"""Scores of answers, and of others, that are held at a time: 32 MB each, and as much again for their ranks; 200 MB in all at 384 dimensions."""


class Ranked(NamedTuple):
    """One query: its number, and the ranks of its answers, ascending from 1; none where the gallery has no answer."""

    query: int
    ranks: NDArray[np.int64]


def ranks(
    queries: Floats | Rows, labels: Ints, gallery: Floats | Rows, gallery_labels: Ints, metric: Metric = "cosine", same: bool = False, device: str = "cpu"
) -> Iterator[Ranked]:
    """The ranks of all gallery images of each query's class; queries come class by class.

    Args:
        queries, gallery: features, (Q, D) and (G, D).
        labels, gallery_labels: classes, (Q,) and (G,).
        same: whether the gallery is the queries, of which each leaves itself out.
    """
    counts = np.bincount(gallery_labels, minlength=int(labels.max()) + 1)
    of_class = np.split(np.argsort(gallery_labels, kind="stable"), np.cumsum(counts)[:-1])
    near = _Nearness(queries, gallery, metric, device)
    for block in _blocks(labels, counts):
        asked, own = near.vectors(queries, block), labels[block]
        answers = torch.full((len(block), max(1, int(counts[own].max()))), torch.inf, device=device)
        for c in np.unique(own):
            mine = torch.from_numpy(np.flatnonzero(own == c)).to(device)
            scores = near.scores(asked[mine], of_class[c])
            if same:
                scores[torch.from_numpy(block[own == c][:, None] == of_class[c]).to(device)] = torch.inf
            answers[mine, : counts[c]] = scores
        answers = _ascending(answers)
        before = torch.zeros(answers.shape, dtype=torch.int32, device=device)
        for some in _stretches(len(gallery), max(VECTORS, SCORES // len(block))):
            scores = near.scores(asked, some)
            scores[torch.from_numpy(own[:, None] == gallery_labels[some]).to(device)] = -torch.inf
            before += len(some) - torch.searchsorted(_ascending(scores), answers, out_int32=True)
        for query, others in zip(block, before.cpu().numpy(), strict=True):
            found = counts[labels[query]] - same
            yield Ranked(int(query), others[:found][::-1] + np.arange(1, found + 1))


class _Nearness:
    """Scores of queries with gallery images, the higher the nearer: cosines, or what falls as the distance grows."""

    def __init__(self, queries: Floats | Rows, gallery: Floats | Rows, metric: Metric, device: str) -> None:
        self.gallery, self.device, self.centre = gallery, device, None
        if metric == "euclidean":  # far from the origin distances would be lost in rounding
            total = sum(queries[some].sum(0, dtype=np.float64) for some in _stretches(len(queries), VECTORS))
            self.centre = torch.from_numpy(np.asarray(total / len(queries), np.float32)).to(device)

    def vectors(self, features: Floats | Rows, some: Ints) -> Tensor:
        """Some features on the device, of length 1 or centred."""
        vectors = taken(features, some, self.device)
        return unit(vectors) if self.centre is None else vectors.sub_(self.centre)

    def scores(self, asked: Tensor, some: Ints) -> Tensor:
        """(B, n) of queries with n images of the gallery, which are read a block at a time."""
        found = torch.empty((len(asked), len(some)), device=self.device)
        for part in _stretches(len(some), VECTORS):
            vectors = self.vectors(self.gallery, some[part])
            product = asked @ vectors.T
            found[:, part[0] : part[-1] + 1] = product if self.centre is None else product - vectors.square().sum(1) / 2
        return found


def _stretches(count: int, size: int) -> Iterator[Ints]:
    for low in range(0, count, size):
        yield np.arange(low, min(low + size, count))


def _blocks(labels: Ints, counts: Ints) -> Iterator[Ints]:
    """Queries class by class, as many at a time as the scores of their answers may be held of."""
    order = np.argsort(labels, kind="stable")
    start = 0
    while start < len(order):
        block = order[start : start + QUERIES]
        widest = np.maximum.accumulate(np.maximum(counts[labels[block]], 1))
        block = block[: max(1, int((widest * np.arange(1, len(block) + 1) <= SCORES).sum()))]
        yield block
        start += len(block)


def _ascending(scores: Tensor) -> Tensor:
    """Each row sorted; on a CPU in place and by NumPy, which is faster."""
    if scores.device.type != "cpu":
        return torch.sort(scores, dim=1).values
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(lambda rows: rows.sort(axis=1), np.array_split(scores.numpy(), torch.get_num_threads())))
    return scores
