"""K-means for a million vectors on two cores.

Lloyd's iterations, with centroids that can jump (`relocate.py`) and two savings where there are many clusters, which together look
at a small share of all pairs of a point and a centroid:

- First centroids are drawn as in k-means++ (Arthur and Vassilvitskii, 2007), with probability in proportion to the squared distance
  to the nearest one there is, but several at a time, and each is compared with the points of its own cell alone: cells are clusters
  of a coarse k-means.
- In an iteration a point is compared with the centroids nearest to its own (Wang et al., Fast Approximate K-Means via Cluster
  Closures, CVPR 2012), and with none where none of these has moved. The last assignment is to the nearest of all: exact.

An empty cluster moves to the point that is farthest from its own centroid. Sums are in float64 and in one order.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ssl_tasks.curate.products import each, half_norms, nearest, neighbours, slices
from ssl_tasks.curate.relocate import relocate

EXACT = 256
"""Clusters up to which every point is compared with every centroid."""
REACH = 64
"""Centroids that a point is compared with where there are more clusters."""
SEEDED_ON = 256
"""Points a centroid that first centroids are drawn from, where there are few clusters."""
CHUNK = 65536
"""Points whose sums are taken at a time."""
JUMP = 3
"""Every so many iterations of the first two thirds, and where nothing moves any more, centroids may jump, and it is looked up which are near each other."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Clusters:
    """What k-means gives.

    Attributes:
        centroids: (K, dim).
        nearest: (N,), number of the centroid nearest to each point.
        squared: (N,), squared distance to it.
    """

    centroids: Vectors
    nearest: NDArray[np.int32]
    squared: NDArray[np.float32]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Points of each cluster, (K,)."""
        return np.bincount(self.nearest, minlength=len(self.centroids))

    @property
    def inertia(self) -> float:
        """Sum of squared distances."""
        return float(self.squared.sum(dtype=np.float64))


def kmeans(points: Vectors, count: int, random: np.random.Generator, iterations: int = 25) -> Clusters:
    """Cluster points (N, dim), float32, into `count` clusters, or into N where there are fewer points."""
    return exact(points, trained(points, count, random, iterations))


def trained(points: Vectors, count: int, random: np.random.Generator, iterations: int) -> Clusters:
    """K-means whose assignment may, of more than `EXACT` clusters, miss the nearest one."""
    count = min(count, len(points))
    if count <= EXACT:
        sample = points[np.sort(random.choice(len(points), min(len(points), SEEDED_ON * count), replace=False))]
        centroids = sample[first(sample, np.array([0, len(sample)]), count, random)[0]]
        return lloyd(points, Clusters(centroids, *nearest(points, centroids)), iterations)
    cells = trained(points, isqrt(count), random, iterations=5).nearest
    order = np.argsort(cells, kind="stable")
    points = points[order]  # neighbours in space become neighbours in memory
    chosen, near, squared = first(points, np.searchsorted(cells[order], np.arange(isqrt(count) + 1)), count, random)
    found = lloyd(points, Clusters(points[chosen], near, squared), iterations)
    back = np.argsort(order)
    return replace(found, nearest=found.nearest[back], squared=found.squared[back])


def first(
    points: Vectors, cells: NDArray[np.int64], count: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Draw `count` points as first centroids: their rows, for each point the nearest one of its cell, and the squared distance to it.

    Args:
        cells: where each cell begins, and where the last ends; points of a cell lie together.
    """
    halves = half_norms(points)
    near, squared = np.zeros(len(points), np.int32), np.full(len(points), np.inf, np.float32)
    starts = [random.integers(low, high) for low, high in pairwise(cells.tolist()) if low < high]
    chosen, new = np.empty(0, np.int64), np.array(starts)
    while len(new):
        numbers = np.arange(len(chosen), len(chosen) + len(new), dtype=np.int32)
        chosen = np.r_[chosen, new]
        of = np.searchsorted(cells, new, side="right") - 1

        def block(cell_rows: tuple[int, slice], of: NDArray[np.int64] = of, new: NDArray[np.int64] = new, numbers: NDArray[np.int32] = numbers) -> None:
            cell, rows = cell_rows
            mine = np.flatnonzero(of == cell)
            far = halves[rows, None] - (points[rows] @ points[new[mine]].T - halves[new[mine]])
            best = far.argmin(1)
            value = np.maximum(2 * np.take_along_axis(far, best[:, None], 1)[:, 0], 0)
            better = value < squared[rows]
            squared[rows][better] = value[better]
            near[rows][better] = numbers[mine[best[better]]]

        work = [(cell, slice(cells[cell] + s.start, cells[cell] + s.stop)) for cell in np.unique(of) for s in slices(cells[cell + 1] - cells[cell])]
        for _ in each(block, work):
            pass
        squared[new] = 0
        new = draw(squared, chosen, min(max(1, len(chosen) // 8), count - len(chosen)), random)
    return chosen, near, squared


def draw(weights: NDArray[np.float32], taken: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """At most `count` further rows, with probability in proportion to their weights; where all are 0, whichever are not taken."""
    total = np.cumsum(weights, dtype=np.float64)
    if count == 0:
        return np.empty(0, np.int64)
    if total[-1] == 0:
        return random.choice(np.setdiff1d(np.arange(len(weights)), taken), count, replace=False)
    rows = np.unique(np.searchsorted(total, random.random(count) * total[-1], side="right"))
    return rows[rows < len(weights)]


def lloyd(points: Vectors, found: Clusters, iterations: int) -> Clusters:
    """Iterate from first centroids and an assignment to them."""
    centroids, near, squared = found.centroids.copy(), found.nearest.copy(), found.squared.copy()
    count = len(centroids)
    sums = np.zeros(centroids.shape)
    before = np.full(len(points), -1, np.int32)
    reach = np.empty((count, 0), np.int64)
    for iteration in range(iterations):
        stands = not (near != before).any()
        due = stands or iteration % JUMP == JUMP - 1
        if due and count > 2 and 3 * iteration < 2 * iterations:
            relocate(points, centroids, near, squared)
        refill(near, squared, count)
        changed = np.flatnonzero(near != before)
        if not len(changed):
            break
        add(sums, points, changed, near, 1)
        add(sums, points, changed[before[changed] >= 0], before, -1)
        sizes = np.bincount(near, minlength=count)[:, None]
        updated = np.where(sizes > 0, sums / np.maximum(sizes, 1), centroids).astype(np.float32)
        moved = (updated != centroids).any(1)
        centroids, before = updated, near.copy()
        if count <= EXACT:
            near, squared = nearest(points, centroids)
        else:
            reach = neighbours(centroids, REACH)[0] if due or not iteration else reach
            found = Clusters(centroids, near, squared)
            compare(points, found, reach, np.flatnonzero(moved[reach].any(1)[near]))
    return Clusters(centroids, near, squared)


def refill(near: NDArray[np.int32], squared: NDArray[np.float32], count: int) -> None:
    """Give each empty cluster one of the points that are farthest from their own centroids, in place."""
    empty = np.flatnonzero(np.bincount(near, minlength=count) == 0)
    if len(empty):
        farthest = np.argsort(-squared, kind="stable")[: len(empty)]
        farthest = farthest[squared[farthest] > 0]
        near[farthest] = empty[: len(farthest)]
        squared[farthest] = 0


def add(sums: NDArray[np.float64], points: Vectors, rows: NDArray[np.int64], clusters: NDArray[np.int32], sign: int) -> None:
    """Add points to their clusters' sums, or take them away, in place."""
    for part in slices(len(rows), CHUNK):
        of = rows[part]
        members = csr_array((np.full(len(of), float(sign)), (clusters[of], np.arange(len(of)))), shape=(len(sums), len(of)))
        sums += members @ points[of].astype(np.float64)


def compare(points: Vectors, found: Clusters, reach: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
    """Move some points to the nearest of the centroids within reach of their own, in place.

    Args:
        reach: (K, m), the centroids that a cluster's points are compared with.
        rows: of the points.
    """
    near, halves = found.nearest, half_norms(found.centroids)
    rows = rows[np.argsort(near[rows], kind="stable")]
    cuts = np.flatnonzero(np.diff(near[rows], prepend=-1)).tolist()
    clusters = list(zip(near[rows[cuts]].tolist(), cuts, [*cuts[1:], len(rows)], strict=True))

    def move(some: list[tuple[int, int, int]]) -> None:
        for cluster, low, high in some:
            targets = reach[cluster]
            x, half = found.centroids[targets], halves[targets]
            for part in slices(high - low):
                mine = rows[low:high][part]
                here = points[mine]
                likeness = here @ x.T - half
                best = likeness.argmax(1)
                near[mine] = targets[best]
                found.squared[mine] = np.maximum(2 * (half_norms(here) - likeness[np.arange(len(mine)), best]), 0)

    for _ in each(move, [clusters[part] for part in slices(len(clusters), 64)]):
        pass


def walked(points: Vectors, found: Clusters) -> Clusters:
    """Move each point to the nearest centroid within reach of its own, until none moves."""
    found = replace(found, nearest=found.nearest.copy(), squared=found.squared.copy())
    reach, rows = neighbours(found.centroids, min(REACH, len(found.centroids)))[0], np.arange(len(points))
    while len(rows):
        was = found.nearest[rows]
        compare(points, found, reach, rows)
        rows = rows[found.nearest[rows] != was]
    return found


def exact(points: Vectors, found: Clusters) -> Clusters:
    """Move each point to the nearest centroid.

    A point at distance d from centroid a can have no nearer one beyond 2 d from a: where all up to there are within reach of a, it
    is not compared with the others.
    """
    if len(found.centroids) <= EXACT:
        return found
    found = walked(points, found)
    far = neighbours(found.centroids, REACH)[1][:, -1]
    left = np.flatnonzero(np.sqrt(far[found.nearest]) < 2.001 * np.sqrt(found.squared) + 1e-3)
    found.nearest[left], found.squared[left] = nearest(points[left], found.centroids)
    return found
