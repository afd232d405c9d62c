"""Move centroids of k-means from where two share a cluster's worth of points to where two clusters share one.

Lloyd's iterations never carry a centroid across a gap: rare concepts that got no first centroid stay merged. Merging two clusters
adds a known sum of squares, splitting one in two takes a known sum away, so a centroid is moved where that gains (the idea of
Fritzke, The LBG-U Method for Vector Quantization, 1997; here many at a time, and the gain is computed, not estimated).
"""

import numpy as np
from numpy.typing import NDArray

from ssl_tasks.curate.products import each, neighbours, slices

CANDIDATES = 64
"""Clusters of the largest inertia that may be split at a time; an eighth of all where that is more."""
SAMPLE = 4096
"""Points that tell a cluster's longest direction."""
POWER = 4
"""Iterations towards the direction in which a cluster is longest."""
WORTH = 0.8
"""A merge must add less than this share of what the split takes away."""


def relocate(points: NDArray[np.float32], centroids: NDArray[np.float32], near: NDArray[np.int32], squared: NDArray[np.float32]) -> None:
    """Merge some clusters with their neighbour and give their centroids to halves of others: changes the assignment in place.

    Args:
        points: (N, dim).
        centroids: (K, dim), the means of their clusters.
        near: (N,), number of each point's cluster.
        squared: (N,), squared distance to its centroid, as of some iteration.
    """
    count = len(centroids)
    sizes = np.bincount(near, minlength=count)
    inertia = np.bincount(near, squared, count)
    order = np.argsort(near, kind="stable")
    begins = np.searchsorted(near[order], np.arange(count + 1))
    wide = np.argsort(-inertia, kind="stable")[: max(CANDIDATES, count // 8)]
    halves = list(each(lambda c: half(points, centroids[c], order[begins[c] : begins[c + 1]]), wide.tolist()))
    gains = np.array([gain for gain, _ in halves])
    others, apart = (found[:, 1] for found in neighbours(centroids, 2))
    costs = sizes * sizes[others] / np.maximum(sizes + sizes[others], 1) * apart
    cheap = iter(np.argsort(costs, kind="stable").tolist())
    touched: set[int] = set()
    for best in np.argsort(-gains, kind="stable").tolist():
        split = int(wide[best])
        merged = next((c for c in cheap if not touched & {c, int(others[c])}), split)
        if split in touched or {split} & {merged, int(others[merged])}:
            continue
        if costs[merged] >= WORTH * gains[best]:
            break
        touched |= {split, merged, int(others[merged])}
        near[order[begins[merged] : begins[merged + 1]]] = others[merged]
        near[halves[best][1]] = merged


def half(points: NDArray[np.float32], centroid: NDArray[np.float32], rows: NDArray[np.int64]) -> tuple[float, NDArray[np.int64]]:
    """Those of a cluster's rows on one side of its mean, along its longest direction, and how much inertia cutting there takes away."""
    if len(rows) < 2:
        return 0.0, rows[:0]
    away = points[rows[:: -(-len(rows) // SAMPLE)]] - centroid
    along = away[np.einsum("nd,nd->n", away, away).argmax()]
    for _ in range(POWER):
        along = (away @ along) @ away
        along /= max(float(np.linalg.norm(along)), 1e-12)
    side, total = np.empty(len(rows), bool), np.zeros(len(centroid))
    for part in slices(len(rows)):
        away = points[rows[part]] - centroid
        side[part] = away @ along > 0
        total += away[side[part]].sum(0, dtype=np.float64)
    one = int(side.sum())
    if not 0 < one < len(rows):
        return 0.0, rows[:0]
    return float(total @ total) * (1 / one + 1 / (len(rows) - one)), rows[side]
