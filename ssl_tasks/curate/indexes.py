"""Indexes that propose which unit vectors are near to each other.

`flat`: exact, blocks of the matrix of all cosines. `ivf`: k-means cells; a vector is compared with those in the cells nearest to
it, as many as it takes to find 99.8% of a sample's pairs; it works on the vectors where they lie, without a copy. `hnsw`: faiss's
graph over vectors in half precision. `ivfpq`: faiss's cells of product-quantised vectors. `auto`: flat up to `EXACT` products,
then ivf: of those that are the same every time it is the quickest to build, and it needs the least memory beside the vectors.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from ssl_tasks.curate.products import each, slices

Index = Literal["auto", "flat", "ivf", "hnsw", "ivfpq"]
Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")

ROUNDING = 1e-6
"""Of a cosine of float32 vectors: equal vectors count as above a threshold of 1."""
MARGIN = 1e-5
"""By how much less than the threshold a float32 product may be for its pair to be proposed."""
EXACT = 4e11
"""Products of numbers up to which `auto` searches exactly: 32,000 vectors of 384 dimensions, some seconds on two cores."""
SMALLEST = 1000
"""Vectors below which every index is exact."""
SAMPLE = 1000
"""Vectors whose pairs are searched exactly to choose the cells to look at, and others to measure the recall."""
PROBES = (12, 64)
"""Cells looked at for a vector: the least, and the most."""


@dataclass(frozen=True)
class Side:
    """Some rows of a matrix of vectors."""

    vectors: Vectors
    rows: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: slice | Ints) -> Vectors:
        found: Vectors = self.vectors[self.rows[at]]
        return found


Search = Callable[[Side, Side, float, int, int], Iterator[Ints]]
"""Of two sides, which may be one, a threshold, a number of neighbours and a seed: places of pairs in each, (2, P) at a time. A pair may
come more than once, and where the sides are one also as (i, i). Of each vector there is one neighbour more, if it has more."""


def chosen(index: Index, left: Side, right: Side) -> tuple[str, Search]:
    """The index that is used, by its name and size, and its search."""
    if min(len(left), len(right)) < SMALLEST:
        index = "flat"
    elif index == "auto":
        index = "flat" if len(left) * len(right) * right.vectors.shape[1] <= EXACT else "ivf"
    searches: dict[str, Search] = {"flat": flat, "ivf": _ivf, "hnsw": _hnsw, "ivfpq": _ivfpq}
    return index, searches[index]


def sampled(left: Side, right: Side, threshold: float, neighbours: int, random: np.random.Generator) -> Ints:
    """The pairs that an exact search proposes for a sample of vectors, (2, P)."""
    places = np.sort(random.choice(len(left), min(len(left), SAMPLE), replace=False))
    found = np.concatenate(list(flat(Side(left.vectors, left.rows[places]), right, threshold, neighbours, 0)), axis=1)
    return np.stack([places[found[0]], found[1]])


def flat(left: Side, right: Side, threshold: float, neighbours: int, _seed: int) -> Iterator[Ints]:
    """Blocks of all cosines; of a matrix with itself only those above its diagonal."""
    own = left is right
    blocks = [(rows, columns) for rows in slices(len(left)) for columns in slices(len(right)) if not own or columns.start >= rows.start]

    def block(item: tuple[slice, slice]) -> Ints:
        rows, columns = item
        places = _above(left[rows], right[columns], threshold, neighbours + 2)
        places += np.array([[rows.start], [columns.start]])
        return places

    return each(block, blocks)


def _above(left: Vectors, right: Vectors, threshold: float, neighbours: int) -> Ints:
    """Places of pairs above the threshold, (2, P), where either is among the nearest `neighbours` of the other in this block."""
    products = left @ right.T
    wanted = products >= threshold - ROUNDING - MARGIN
    if max(wanted.sum(0).max(), wanted.sum(1).max()) > neighbours:
        wanted &= (products >= _least(products, neighbours, 0)) | (products >= _least(products, neighbours, 1))
    return np.stack(np.nonzero(wanted))


def _least(products: NDArray[np.float32], count: int, axis: int) -> NDArray[np.float32] | float:
    """What the `count` largest values along an axis exceed."""
    if products.shape[axis] <= count:
        return -np.inf
    found: NDArray[np.float32] = np.partition(products, -count, axis).take([-count], axis)
    return found - MARGIN


def _ivf(left: Side, right: Side, threshold: float, neighbours: int, seed: int) -> Iterator[Ints]:
    """Each vector against those whose cell is among the nearest to it."""
    centroids = _centroids(right, seed)
    probes = _probes(left, right, centroids, threshold, neighbours, seed)
    visits = _nearest_cells(left, centroids, probes)
    homes = visits[:, 0] if left is right else _nearest_cells(right, centroids, 1)[:, 0]
    members, visitors = _by_cell(homes, len(centroids)), _by_cell(visits.ravel(), len(centroids))

    def cell(number: int) -> Ints:
        inside, here = members[number], visitors[number] // probes
        found = []
        for columns in slices(len(inside)):
            block = right[inside[columns]]
            for rows in slices(len(here)):
                pairs = _above(left[here[rows]], block, threshold, neighbours + 2)
                found.append(np.stack([here[rows][pairs[0]], inside[columns][pairs[1]]]))
        return np.concatenate(found or [np.zeros((2, 0), np.int64)], axis=1)

    return each(cell, range(len(centroids)))


def _centroids(side: Side, seed: int) -> Vectors:
    """4 sqrt(N) cells by a few rounds of k-means on 16 vectors a cell."""
    count = round(4 * len(side) ** 0.5)
    sample = np.sort(np.random.default_rng((seed, 1)).choice(len(side), min(len(side), 16 * count), replace=False))
    kmeans = faiss.Kmeans(
        side.vectors.shape[1], count, niter=5, seed=seed, spherical=True, min_points_per_centroid=1, max_points_per_centroid=len(sample), verbose=False
    )
    list(single(kmeans.train, [side[sample]]))
    assert kmeans.centroids is not None
    return kmeans.centroids


def _nearest_cells(side: Side, centroids: Vectors, count: int) -> NDArray[np.int32]:
    def block(rows: slice) -> NDArray[np.int32]:
        found: NDArray[np.int32] = faiss.knn(side[rows], centroids, count, metric=faiss.METRIC_INNER_PRODUCT)[1].astype(np.int32)
        return found

    return np.concatenate(list(single(block, slices(len(side)))))


def _probes(left: Side, right: Side, centroids: Vectors, threshold: float, neighbours: int, seed: int) -> int:
    """Cells that a vector must look at for 99.8% of a sample's pairs to be found, where the sample has pairs enough to tell."""
    pairs = sampled(left, right, threshold, neighbours, np.random.default_rng((seed, 2)))
    if left is right:
        pairs = pairs[:, pairs[0] != pairs[1]]
    pairs = pairs[:, :5000]
    if pairs.shape[1] < 100:
        return min(PROBES[0], len(centroids))
    ends = [left[pairs[0]] @ centroids.T, right[pairs[1]] @ centroids.T]
    homes = [e.argmax(1)[:, None] for e in ends]
    ranks = [(a > np.take_along_axis(a, home, 1)).sum(1) for a, home in zip(ends, reversed(homes), strict=True)]
    needed = (np.minimum(*ranks) if left is right else ranks[0]) + 1
    return int(np.clip(np.quantile(needed, 0.998, method="higher"), PROBES[0], min(PROBES[1], len(centroids))))


def _by_cell(cells: NDArray[np.int32], count: int) -> list[Ints]:
    """Places of each cell's entries, in order."""
    return np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells, minlength=count))[:-1])


def _hnsw(left: Side, right: Side, _threshold: float, neighbours: int, _seed: int) -> Iterator[Ints]:
    index: Any = faiss.index_factory(right.vectors.shape[1], "HNSW32_SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 80, max(64, 2 * neighbours)
    return _searched(index, left, right, neighbours)


def _ivfpq(left: Side, right: Side, _threshold: float, neighbours: int, seed: int) -> Iterator[Ints]:
    """Four times the neighbours are looked at again, since quantised cosines are rough."""
    dim, cells = right.vectors.shape[1], round(len(right) ** 0.5)
    parts = max(m for m in range(1, max(1, dim // 8) + 1) if dim % m == 0)
    index: Any = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, cells, parts, 8, faiss.METRIC_INNER_PRODUCT)
    index.nprobe, index.cp.seed, index.pq.cp.seed, index.do_polysemous_training = min(cells, 32), seed, seed, False
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.pq.cp.max_points_per_centroid, index.pq.cp.niter = 40, 8
    return _searched(index, left, right, 4 * neighbours)


def _searched(index: Any, left: Side, right: Side, neighbours: int) -> Iterator[Ints]:
    """What a faiss index proposes that one thread has trained and filled, so that it is the same every time."""

    def fill(sample: Vectors) -> None:
        index.train(sample)
        for rows in slices(len(right)):
            index.add(right[rows])

    def block(rows: slice) -> Ints:
        found = index.search(left[rows], min(neighbours + 2, len(right)))[1]
        places = np.broadcast_to(np.arange(rows.start, rows.stop)[:, None], found.shape)
        return np.stack([places[found >= 0], found[found >= 0]])

    list(single(fill, [right[np.sort(np.random.default_rng(0).choice(len(right), min(len(right), 100_000), replace=False))]]))
    return single(block, slices(len(left)))


def single(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`each`, for what faiss would share out among threads again."""

    def alone(item: Item) -> Result:
        faiss.omp_set_num_threads(1)
        return function(item)

    return each(alone, items)
