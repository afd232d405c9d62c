"""Sample clusters evenly down to a target size.

Vo et al., Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach, 2024,
https://arxiv.org/abs/2405.15613. Frequent concepts fill large clusters; taking at most c images of each, with c such that the
target is met, flattens their distribution. In a tree this is done from the top down: each cluster's share is spread over the
clusters inside it in the same way.

Differs from the paper: the target is met exactly, as what an even c leaves over goes to larger clusters one by one, by chance; no
image is taken more than once.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.curation import Balance
from ssl_tasks.curate.cluster import tree
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.hierarchy import entropy, ranks
from ssl_tasks.curate.kmeans import kmeans
from ssl_tasks.curate.pool import Pool

CLUSTERS = 100


def balance(pool: Pool, config: Balance) -> Decisions:
    """Keep `config.keep` rows, as evenly over the clusters as their sizes allow."""
    count, random = len(pool.ids), np.random.default_rng(pool.seed)
    stands = None if config.clusters else tree(pool.rows)
    if stands:
        levels, distance = stands
        facts, said = {}, {}
    else:
        found = kmeans(pool.embeddings(config.embedding), config.clusters or CLUSTERS, random)
        levels, distance = [found.nearest], np.sqrt(found.squared)
        facts, said = {"cluster": found.nearest}, {"distance": distance}
    shares = leaf_shares(levels, config.keep, random)
    order = distance if config.pick == "closest" else random.random(count)
    removed = ranks(levels[0], order) >= shares[levels[0]]
    notes = [f"all {count} images kept: there are no more than `keep: {config.keep}`"] if count <= config.keep else []
    before, after = np.bincount(levels[0]), np.bincount(levels[0][~removed])
    metrics = {
        "clusters": int((before > 0).sum()),
        "largest_cluster_before": int(before.max()),
        "largest_cluster_after": int(after.max()),
        "entropy_before": entropy(before[before > 0]),
        "entropy_after": entropy(after[after > 0]),
    }
    return Decisions(removed, "its cluster is full", facts=facts, said=said, metrics=metrics, notes=notes)


def leaf_shares(levels: list[NDArray[np.int32]], keep: int, random: np.random.Generator) -> NDArray[np.int64]:
    """How many rows to take of each cluster of the finest level.

    Args:
        levels: the cluster of each row at each level, (N,) each, the finest first.
    """
    tops = levels[-1]
    shares = even_shares(np.bincount(tops), keep, random)
    for parents, children in zip(reversed(levels), reversed(levels[:-1]), strict=False):
        sizes = np.bincount(children)
        parent = np.zeros(len(sizes), np.int64)
        parent[children] = parents
        inside = np.argsort(parent, kind="stable")
        begins = np.searchsorted(parent[inside], np.arange(len(shares) + 1))
        spread = np.zeros(len(sizes), np.int64)
        for share, low, high in zip(shares.tolist(), begins[:-1], begins[1:], strict=True):
            spread[inside[low:high]] = even_shares(sizes[inside[low:high]], share, random)
        shares = spread
    return shares


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
