"""Near neighbours by cosine among up to millions of unit vectors: all pairs above a threshold, exactly or nearly all.

An index (`indexes.py`) proposes pairs; which of them count is decided on cosines that are computed again, in float64 and in a fixed
order, from the vectors themselves. So the pairs do not depend on an index's arithmetic or on the number of threads, and none is
false: an index can only miss some. How many it misses is measured against an exact search for a sample of the vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from ssl_tasks.curate import indexes
from ssl_tasks.curate.indexes import ROUNDING, Index, Ints, Side, Vectors
from ssl_tasks.curate.products import each, slices


@dataclass(frozen=True)
class Near:
    """Pairs of vectors whose cosine is at least a threshold, in the order of `rows`, then `others`.

    Attributes:
        rows, others: (P,), the pair's places; among the vectors themselves `rows` < `others`, and each pair comes once.
        cosines: (P,), float32.
        index: which found them.
        recall: share of the pairs of a sample of vectors that were found; None where the sample has no pair.
        judged: number of pairs that `recall` rests on; 0 where the search was exact.
        crowded: vectors that have more near neighbours than were looked at.
    """

    rows: Ints
    others: Ints
    cosines: NDArray[np.float32]
    index: str
    recall: float | None
    judged: int
    crowded: int


def near(vectors: Vectors, threshold: float, neighbours: int, index: Index = "auto", seed: int = 0, bank: Vectors | None = None) -> Near:
    """Pairs of vectors, or of a vector and one of `bank`, whose cosine is at least `threshold`.

    Equal vectors are one for the search, each joined to the first of them. Zeros are near to nothing.

    Args:
        vectors: (N, dim), of length 1, or zeros.
        neighbours: of a vector at most so many nearest ones count; a pair counts where either is among those of the other.
        bank: (M, dim), what they are compared with; themselves where not given.
    """
    own, rows = bank is None, np.flatnonzero(vectors.any(1))
    first, again, of = _distinct(vectors, rows) if own else (rows, rows[:0], rows[:0])
    left = Side(vectors, first)
    right = left if bank is None else Side(bank, np.flatnonzero(bank.any(1)))
    chosen, search = indexes.chosen(index, left, right)
    pairs, cosines = _decided(search(left, right, threshold, neighbours, seed), left, right, threshold)
    pairs, cosines, crowded = _limited(pairs, cosines, neighbours, own)
    recall, judged = (1.0, 0) if chosen == "flat" else _recall(pairs, left, right, threshold, neighbours, seed)
    ends = np.concatenate([np.stack([left.rows[pairs[0]], right.rows[pairs[1]]]), np.stack([of, again])], axis=1)
    values = np.r_[cosines, np.ones(len(again), np.float32)]
    order = np.lexsort((ends[1], ends[0]))
    return Near(ends[0][order], ends[1][order], values[order], chosen, recall, judged, crowded)


def nearest(queries: Vectors, bank: Vectors, count: int) -> tuple[Ints, NDArray[np.float32]]:
    """Of each query the `count` nearest in `bank`, by exact search, and their cosines: (Q, count) each, nearest first, then by place."""

    def block(rows: slice) -> Ints:
        found: Ints = faiss.knn(queries[rows], bank, min(count, len(bank)), metric=faiss.METRIC_INNER_PRODUCT)[1]
        return found

    found = np.concatenate(list(indexes.single(block, slices(len(queries), 256))) or [np.zeros((0, min(count, len(bank))), np.int64)])
    ends = np.repeat(np.arange(len(queries)), found.shape[1]), found.ravel()
    values = cosine(queries, ends[0], bank, ends[1]).reshape(found.shape)
    order = np.lexsort((found, -values), axis=1)
    return np.take_along_axis(found, order, 1), np.take_along_axis(values, order, 1)


def cosine(vectors: Vectors, rows: Ints, bank: Vectors, others: Ints) -> NDArray[np.float32]:
    """Of unit vectors `vectors[rows]` and `bank[others]`, pair by pair: summed in float64, in a fixed order."""
    found = np.empty(len(rows), np.float32)

    def block(some: slice) -> None:
        found[some] = np.minimum((vectors[rows[some]].astype(np.float64) * bank[others[some]]).sum(1), 1)

    for _ in each(block, slices(len(rows))):
        pass
    return found


def _distinct(vectors: Vectors, rows: Ints) -> tuple[Ints, Ints, Ints]:
    """The first row of each set of equal vectors; the others; and for each of these the first one."""
    odd = np.random.default_rng(0).integers(0, 2**62, vectors.shape[1], np.uint64) * 2 + 1
    hashes = np.empty(len(rows), np.uint64)
    for some in slices(len(rows)):
        hashes[some] = (np.ascontiguousarray(vectors[rows[some]]).view(np.uint32) * odd).sum(1)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    stands = first[group]
    again = np.flatnonzero(stands != np.arange(len(rows)))
    equal = np.concatenate([(vectors[rows[again[some]]] == vectors[rows[stands[again[some]]]]).all(1) for some in slices(len(again))] or [np.zeros(0, bool)])
    again = again[equal]
    return np.delete(rows, again), rows[again], rows[stands[again]]


def _decided(candidates: Iterator[Ints], left: Side, right: Side, threshold: float) -> tuple[Ints, NDArray[np.float32]]:
    """The candidates that are above the threshold, each once and in order, (2, P), and their cosines."""
    size, keys = len(right), [np.zeros(0, np.int64)]
    for found in candidates:
        pairs = np.sort(found[:, found[0] != found[1]], axis=0) if left is right else found
        keys.append(pairs[0] * size + pairs[1])
    pairs = np.stack(np.divmod(np.unique(np.concatenate(keys)), size))
    cosines = cosine(left.vectors, left.rows[pairs[0]], right.vectors, right.rows[pairs[1]])
    wanted = cosines.astype(np.float64) >= threshold - ROUNDING
    return pairs[:, wanted], cosines[wanted]


def _limited(pairs: Ints, cosines: NDArray[np.float32], neighbours: int, own: bool) -> tuple[Ints, NDArray[np.float32], int]:
    """The pairs in which one is among the nearest `neighbours` of the other; and how many have more than that."""
    ends = np.concatenate([pairs, pairs[::-1]], axis=1) if own else pairs
    crowded = np.bincount(ends[0], minlength=1) > neighbours
    if not crowded.any():
        return pairs, cosines, 0
    order = np.lexsort((ends[1], -np.resize(cosines, ends.shape[1]), ends[0]))
    start = np.searchsorted(ends[0][order], ends[0][order])
    close = np.empty(ends.shape[1], bool)
    close[order] = np.arange(len(order)) - start < neighbours
    wanted = close.reshape(-1, pairs.shape[1]).any(0)
    return pairs[:, wanted], cosines[wanted], int(crowded.sum())


def _recall(pairs: Ints, left: Side, right: Side, threshold: float, neighbours: int, seed: int) -> tuple[float | None, int]:
    """Share of the pairs of a sample that were found, and how many it has."""
    sampled = indexes.sampled(left, right, threshold, neighbours, np.random.default_rng((seed, 3)))
    wanted = _limited(*_decided(iter([sampled]), left, right, threshold), neighbours, left is right)[0]
    found = np.isin(wanted[0] * len(right) + wanted[1], pairs[0] * len(right) + pairs[1])
    return (float(found.mean()) if len(found) else None), len(found)
