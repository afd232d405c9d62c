"""Keep of the pool what lies near a seed set.

The retrieval of LVD-142M: Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, 2023,
https://arxiv.org/abs/2304.07193, appendix A. `nearest`: of each seed its nearest pool images, for large seed sets. `clusters`: the
pool is clustered, and clusters in which enough seeds fall are sampled, for small ones.

Differs from the paper: the search is exact where theirs is by product-quantised vectors; images that several seeds find are
counted; where there are more images than are wanted in all, seeds or clusters take turns, so that none floods the set.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.curation import Retrieve
from ssl_tasks.curate import products
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.hierarchy import ranks
from ssl_tasks.curate.kmeans import kmeans
from ssl_tasks.curate.neighbours import nearest
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data import manifest

SHOWN = 12
"""Seeds that the report names with the images that they found."""


def retrieve(pool: Pool, config: Retrieve) -> Decisions:
    """Keep rows that a seed finds; seeds are the kept train images of another Dataset."""
    seeds = manifest.kept(manifest.read(pool.dataset(config.seeds)))
    points, queries = pool.embeddings(config.embedding), pool.embeddings(config.embedding, rows=seeds)
    if config.mode == "clusters":
        return by_cluster(points, queries, config, pool.seed)
    return by_seed(pool.ids, points, seeds["id"].to_numpy(), queries, config)


def by_seed(ids: NDArray[np.int64], points: NDArray[np.float32], seed_ids: NDArray[np.int64], queries: NDArray[np.float32], config: Retrieve) -> Decisions:
    """Keep of each seed its nearest rows: first the nearest of every seed, then every second one, until there are enough."""
    rows, cosines = nearest(queries, points, config.neighbours)
    count, each = rows.shape
    row, cosine = rows.ravel(), cosines.ravel()
    seed, rank = np.divmod(np.arange(row.size), each)
    turns = np.lexsort((row, -cosine, rank))
    found = row[turns[np.sort(np.unique(row[turns], return_index=True)[1])]]
    reasons = np.full(len(ids), f"not among the {config.neighbours} nearest of any seed", object)
    reasons[found] = "its seeds' turn had not come when there were enough"
    removed = np.ones(len(ids), bool)
    removed[found[: config.keep]] = False
    likest = np.lexsort((seed, -cosine))
    first = likest[np.unique(row[likest], return_index=True)[1]]  # of each row that was found, in order of rows
    said = {"seed": sparse(row[first], seed_ids[seed[first]], ids), "similarity": sparse(row[first], cosine[first], ids)}
    said["rank"] = sparse(row[first], rank[first].astype(np.int32) + 1, ids)
    metrics = {"seeds": count, "found": len(found), "collisions": row.size - len(found)}
    report: dict[str, Any] = {"seeds": [{"seed": int(seed_ids[s]), "images": ids[rows[s][:SHOWN]].tolist()} for s in range(min(SHOWN, count))]}
    return Decisions(removed, reasons.tolist(), said=said, metrics=metrics, report=report)


def by_cluster(points: NDArray[np.float32], queries: NDArray[np.float32], config: Retrieve, seed: int) -> Decisions:
    """Keep random rows of each cluster that holds enough seeds: one of every such cluster, then a second, until there are enough."""
    random = np.random.default_rng(seed)
    clusters = kmeans(points, config.clusters, random)
    seeds = np.bincount(products.nearest(queries, clusters.centroids)[0], minlength=len(clusters.centroids))
    turns = ranks(clusters.nearest, random.random(len(points)))
    sampled = seeds >= config.seeds_per_cluster
    open_ = np.flatnonzero(sampled[clusters.nearest] & (turns < config.per_cluster))
    removed = np.ones(len(points), bool)
    removed[open_[np.lexsort((clusters.nearest[open_], turns[open_]))][: config.keep]] = False
    few = f"fewer than {config.seeds_per_cluster} seeds in its cluster"
    reasons = np.where(sampled[clusters.nearest], "enough of its cluster are kept", few).tolist()
    metrics = {"seeds": len(queries), "clusters": int((clusters.sizes > 0).sum()), "sampled_clusters": int(sampled.sum())}
    said = {"seeds": seeds[clusters.nearest].astype(np.int32), "distance": np.sqrt(clusters.squared)}
    return Decisions(removed, reasons, facts={"cluster": clusters.nearest}, said=said, metrics=metrics)


def sparse(rows: NDArray[np.int64], values: NDArray[Any], ids: NDArray[np.int64]) -> pa.Array:
    """A provenance column that is null but in some rows."""
    column, without = np.zeros(len(ids), values.dtype), np.ones(len(ids), bool)
    column[rows], without[rows] = values, False
    return pa.array(column, mask=without)
