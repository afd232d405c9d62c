"""Cluster by k-means and sample the clusters evenly down to a target size.

Vo et al., Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach, 2024,
https://arxiv.org/abs/2405.15613. Frequent concepts fill large clusters; taking at most c images of each, with c such that the
target is met, flattens their distribution.

Differs from the paper: one level of clusters where the paper stacks several and re-centres them by resampling.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

from schemas.curation import Balance
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool

ITERATIONS = 25


def balance(pool: Pool, config: Balance) -> Decisions:
    """Keep `config.keep` rows, as evenly over the clusters as their sizes allow; within a cluster chance decides."""
    count = len(pool.ids)
    number = min(config.clusters or 100, count)
    clusters = cluster(pool.embeddings(config.embedding), number, pool.seed)
    notes = [f"all {count} images kept: there are no more than `keep: {config.keep}`"] if count <= config.keep else []
    random = np.random.default_rng(pool.seed)
    sizes = np.bincount(clusters, minlength=number)
    shares = even_shares(sizes, config.keep, random)
    removed = np.ones(count, bool)
    for each, share in enumerate(shares):
        removed[random.permutation(np.flatnonzero(clusters == each))[:share]] = False
    metrics = {"clusters": int((sizes > 0).sum()), "largest_cluster_before": int(sizes.max()), "largest_cluster_after": int(shares.max())}
    return Decisions(removed, "its cluster is full", facts={"cluster": clusters}, metrics=metrics, notes=notes)


def even_shares(sizes: NDArray[np.int64], keep: int, random: np.random.Generator) -> NDArray[np.int64]:
    """How many to take of clusters of these sizes: min(cap, size) each, plus one of some larger ones, `keep` in all."""
    if sizes.sum() <= keep:
        return sizes
    low, high = 0, int(sizes.max())
    while high - low > 1:  # the cap is the largest number with sum(min(cap, size)) <= keep
        middle = (low + high) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= keep else (low, middle)
    shares = np.minimum(sizes, low)
    larger = np.flatnonzero(sizes > low)
    shares[random.permutation(larger)[: keep - shares.sum()]] += 1
    return shares


def cluster(embeddings: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int32]:
    """Number of the nearest of `count` k-means centroids for each row: the same for any number of threads."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # sums in another order round to other centroids
    try:
        # Spread-out first centroids: with random ones, rare concepts often have none and stay merged.
        start = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
        means = faiss.Kmeans(embeddings.shape[1], count, niter=ITERATIONS, seed=seed % 2**31, min_points_per_centroid=1, init_method=start)
        means.train(embeddings)
        nearest = means.index.search(embeddings, 1)[1][:, 0]
    finally:
        faiss.omp_set_num_threads(threads)
    return np.asarray(nearest, np.int32)
