"""Hierarchical k-means with resampling, and how evenly images lie in clusters.

Vo et al., Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach, 2024,
https://arxiv.org/abs/2405.15613. Level 1 clusters the images' vectors, level l the centroids of level l - 1. K-means puts most
centroids where most images are; resampling, k-means again on the few points nearest to each centroid, moves them towards an even
spread over all that the images cover.

Differs from the paper: k-means is that of `kmeans.py`, in float32; where half a mean cluster is a single point, a level is not
resampled; 25 iterations where the paper takes 50.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.curation import Resample
from ssl_tasks.curate.kmeans import EXACT, Clusters, exact, kmeans, trained, walked
from ssl_tasks.curate.products import nearest


def hierarchy(points: NDArray[np.float32], counts: list[int], resample: Resample, seed: int, iterations: int) -> list[Clusters]:
    """The levels of a tree, the finest first: each but the first clusters the centroids of the one before.

    Args:
        points: (N, dim).
        counts: clusters of each level.
    """
    levels: list[Clusters] = []
    for level, count in enumerate(counts):
        random = np.random.default_rng((seed, level))
        found = kmeans(points, count, random, iterations)
        if len(counts) > 1:
            found = resampled(points, found, resample, random, iterations)
        levels.append(found)
        points = found.centroids
    return levels


def resampled(points: NDArray[np.float32], found: Clusters, resample: Resample, random: np.random.Generator, iterations: int) -> Clusters:
    """Train again on the points nearest to each centroid alone, and put all points into the clusters that this gives."""
    count = len(found.centroids)
    size = resample.points or len(points) // (2 * count)
    if size < 2 or not resample.times:
        return found
    for _ in range(resample.times):
        rows = np.flatnonzero(ranks(found.nearest, found.squared) < size)
        centroids = trained(points[rows], count, random, iterations).centroids
        if len(centroids) <= EXACT:
            found = Clusters(centroids, *nearest(points, centroids))
        else:
            moved = nearest(found.centroids, centroids)[0]
            found = walked(points, Clusters(centroids, moved[found.nearest], found.squared))
    return exact(points, found)


def ranks(clusters: NDArray[np.integer], order: NDArray[np.floating]) -> NDArray[np.int64]:
    """Place of each row within its cluster by increasing `order`, then by row; from 0."""
    rows = np.lexsort((order, clusters))
    sizes = np.bincount(clusters)
    places: NDArray[np.int64] = np.empty(len(rows), np.int64)
    places[rows] = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return places


def of_images(levels: list[Clusters]) -> list[NDArray[np.int32]]:
    """The cluster of each image at each level, (N,) each."""
    found = [levels[0].nearest]
    for level in levels[1:]:
        found.append(level.nearest[found[-1]])
    return found


def entropy(sizes: NDArray[np.int64]) -> float:
    """Of cluster sizes, as a share of that of equal ones: 1 where all clusters are equally large, 0 where one holds all."""
    shares = sizes[sizes > 0] / sizes.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(sizes))) if len(sizes) > 1 else 1.0
