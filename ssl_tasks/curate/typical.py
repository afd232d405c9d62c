"""Keep the most typical images of each cluster.

Hacohen, Dekel and Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets (TypiClust), 2022,
https://arxiv.org/abs/2202.02794. An image is the more typical, the nearer its nearest neighbours are: the inverse of its mean
distance to them. Images are taken from the clusters in turns, so that what is typical differs.

Differs from the paper: neighbours are sought within an image's cluster, so that a million images need no graph of all; clusters of
fewer than 5 images have their turn as well, after the larger ones; without labels there is no cluster that is covered already.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.curation import Typical
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.hierarchy import ranks
from ssl_tasks.curate.kmeans import kmeans
from ssl_tasks.curate.pool import Pool
from ssl_tasks.curate.products import BLOCK, each, half_norms, slices

MOST_CLUSTERS = 500
"""The paper's limit."""


def typical(pool: Pool, config: Typical) -> Decisions:
    """Keep `config.keep` rows: the most typical one of each cluster, the largest first, then the next most typical, and so on."""
    points, count = pool.embeddings(config.embedding), len(pool.ids)
    clusters = config.clusters or min(config.keep, MOST_CLUSTERS)
    found = kmeans(points, clusters, np.random.default_rng(pool.seed))
    distance = mean_distances(points, found.nearest, config.neighbours)
    turns = ranks(found.nearest, distance)
    removed = np.ones(count, bool)
    removed[np.lexsort((found.nearest, -found.sizes[found.nearest], turns))[: config.keep]] = False
    notes = [f"all {count} images kept: there are no more than `keep: {config.keep}`"] if count <= config.keep else []
    said = {"typicality": 1 / np.maximum(distance, 1e-6), "turn": turns.astype(np.int32)}
    metrics = {"clusters": int((found.sizes > 0).sum()), "turns": int(turns[~removed].max()) + 1}
    return Decisions(removed, "more typical images of its cluster are kept", facts={"cluster": found.nearest}, said=said, metrics=metrics, notes=notes)


def mean_distances(points: NDArray[np.float32], clusters: NDArray[np.int32], neighbours: int) -> NDArray[np.float32]:
    """Mean distance of each point to its nearest neighbours in its cluster, (N,); infinite where there is none.

    Costs sum(size^2) * dim products over the clusters: two thousand images a cluster, of a million, take half a minute on two cores.
    """
    order = np.argsort(clusters, kind="stable")
    begins = np.flatnonzero(np.diff(clusters[order], prepend=-1)).tolist()
    found = np.full(len(points), np.inf, np.float32)

    def cluster(ends: tuple[int, int]) -> None:
        rows = order[slice(*ends)]
        inside = points[rows]
        halves = half_norms(inside)
        count = min(neighbours, len(rows) - 1)
        for part in slices(len(rows), BLOCK // 8) if count else []:
            squared = 2 * (halves[part, None] + halves - inside[part] @ inside.T)
            squared[np.arange(len(squared)), np.arange(part.start, part.stop)] = np.inf
            nearest = np.sort(np.partition(squared, count - 1, axis=1)[:, :count], axis=1)
            found[rows[part]] = np.sqrt(np.maximum(nearest, 0)).mean(1)

    for _ in each(cluster, zip(begins, [*begins[1:], len(order)], strict=True)):
        pass
    return found
