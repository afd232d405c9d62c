"""Components of the graph of near duplicates: what hangs together, how wide it is, and how it is cut where that is too wide."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssl_tasks.curate.indexes import ROUNDING, Ints, Vectors
from ssl_tasks.curate.neighbours import Near, cosine
from ssl_tasks.curate.products import each

WHOLE = 4096
"""Images of a component up to which all its cosines are computed; of a larger one those of so many, drawn at random."""


def components_of(pairs: Near, count: int) -> NDArray[np.int32]:
    """Number of each row's component, (N,), counted by their first rows."""
    graph = coo_array((np.ones(len(pairs.rows), bool), (pairs.rows, pairs.others)), shape=(count, count))
    return numbered(connected_components(graph, directed=False)[1])


def numbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Labels (N,) renamed by the order in which they come first."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    names: NDArray[np.int32] = np.argsort(np.argsort(first)).astype(np.int32)[inverse]
    return names


def members(component: NDArray[np.int32]) -> list[Ints]:
    """Rows of each component of two or more, in order."""
    order, sizes = np.argsort(component, kind="stable"), np.bincount(component, minlength=1)
    return [rows for rows, size in zip(np.split(order, np.cumsum(sizes)[:-1]), sizes, strict=True) if size > 1]


def lowest_cosines(vectors: Vectors, groups: list[Ints], seed: int) -> NDArray[np.float32]:
    """Of each group the lowest cosine between any two: exactly up to `WHOLE` rows, beyond between so many of them."""

    def lowest(number: int) -> float:
        rows = groups[number]
        if len(rows) > WHOLE:
            rows = np.sort(np.random.default_rng((seed, number)).choice(rows, WHOLE, replace=False))
        return float(min(1, cosines(vectors, rows).min()))

    found = np.empty(len(groups), np.float32)
    sizes = np.array([len(rows) for rows in groups], np.int64)
    twos, larger = np.flatnonzero(sizes == 2), np.flatnonzero(sizes > 2)
    ends = np.array([groups[number] for number in twos], np.int64).reshape(-1, 2)
    found[twos] = cosine(vectors, ends[:, 0], vectors, ends[:, 1])
    found[larger] = list(each(lowest, larger.tolist()))
    return found


def cosines(vectors: Vectors, rows: Ints) -> NDArray[np.float64]:
    """Between any two of some rows, (M, M)."""
    some = vectors[rows].astype(np.float64)
    found: NDArray[np.float64] = some @ some.T
    return found


def cut(vectors: Vectors, component: NDArray[np.int32], threshold: float) -> NDArray[np.int32]:
    """Components cut into parts in which any two images have at least the threshold's cosine.

    Up to `WHOLE` images by complete linkage, which joins the two parts whose least alike images are most alike until none may be
    joined; beyond, `greedily`.
    """
    groups = members(component)

    def parts(rows: Ints) -> NDArray[np.int32]:
        if len(rows) > WHOLE:
            return greedily(vectors[rows], threshold)
        if len(rows) == 2:
            return np.zeros(2, np.int32)
        far = np.maximum(1 - cosines(vectors, rows), 0)[np.triu_indices(len(rows), 1)]
        found: NDArray[np.int32] = fcluster(linkage(far, "complete"), 1 - threshold + ROUNDING, "distance").astype(np.int32)
        return found

    labels, free = component.copy(), int(component.max(initial=0)) + 1
    for rows, part in zip(groups, each(parts, groups), strict=True):
        labels[rows] = free + part
        free += int(part.max()) + 1
    return numbered(labels)


def greedily(vectors: Vectors, threshold: float) -> NDArray[np.int32]:
    """The part of each row: the first row that is left begins one, and takes the nearest that are near to all that it has taken."""
    part, left, number = np.full(len(vectors), -1, np.int32), np.arange(len(vectors)), 0
    least = threshold - ROUNDING
    while len(left):
        near = left[_products(vectors[left], vectors[left[0]]) >= least]
        near = near[np.argsort(-_products(vectors[near], vectors[left[0]]), kind="stable")]
        allowed = np.ones(len(near), bool)
        for place, row in enumerate(near):
            if allowed[place]:
                part[row] = number
                allowed[place + 1 :] &= _products(vectors[near[place + 1 :]], vectors[row]) >= least
        part[left[0]] = number
        left, number = left[part[left] < 0], number + 1
    return part


def _products(vectors: Vectors, one: Vectors) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (vectors.astype(np.float64) * one).sum(1)
    return found
