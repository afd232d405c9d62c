"""Cluster the images by k-means, of several levels where several numbers are given (`hierarchy.py`); no image is removed.

Each image's cluster at every level, and its distance to the centroid of the finest, become columns of the manifest. They are the
tree that a later `balance` samples, in this curation or in a later one.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.curation import Cluster
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.hierarchy import entropy, hierarchy, of_images, ranks
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data import manifest

SHOWN = 24
"""Clusters, and images of each, that the report names."""


def cluster(pool: Pool, config: Cluster) -> Decisions:
    """Say of each image which cluster it is in."""
    counts = config.clusters if isinstance(config.clusters, list) else [config.clusters]
    levels = hierarchy(pool.embeddings(config.embedding), counts, config.resample, pool.seed, config.iterations)
    members = of_images(levels)
    distance = np.sqrt(levels[0].squared)
    told = [level_report(clusters) for clusters in members]
    metrics = {f"level_{number}/{key}": value for number, level in enumerate(told, 1) for key, value in level.items()}
    said = {**{f"level_{number}": clusters for number, clusters in enumerate(members, 1)}, "distance": distance}
    report = {"levels": told, "largest_clusters": [largest(clusters, distance, pool.ids) for clusters in members]}
    return Decisions(np.zeros(len(pool.ids), bool), facts={"cluster": members[0]}, said=said, metrics=metrics, report=report)


def level_report(clusters: NDArray[np.int32]) -> dict[str, float]:
    """How many clusters hold images, how large they are, and the entropy of their sizes: 1 where all are equally large."""
    sizes = np.bincount(clusters)
    sizes = sizes[sizes > 0]
    return {
        "clusters": len(sizes),
        "smallest": int(sizes.min()),
        "median": float(np.median(sizes)),
        "largest": int(sizes.max()),
        "entropy": round(entropy(sizes), 6),
    }


def largest(clusters: NDArray[np.int32], distance: NDArray[np.float32], ids: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The largest clusters, and the ids of their images that are nearest to a centroid of the finest level."""
    sizes = np.bincount(clusters)
    rows = np.flatnonzero(ranks(clusters, distance) < SHOWN)
    rows = rows[np.lexsort((distance[rows], clusters[rows]))]
    begins = np.searchsorted(clusters[rows], np.arange(len(sizes) + 1))
    order = [int(c) for c in np.argsort(-sizes, kind="stable")[:SHOWN] if sizes[c]]
    return [{"cluster": c, "size": int(sizes[c]), "images": ids[rows[begins[c] : begins[c + 1]]].tolist()} for c in order]


def tree(rows: pa.Table) -> tuple[list[NDArray[np.int32]], NDArray[np.float32]] | None:
    """What the last cluster step that a manifest went through said of some rows.

    Returns:
        The cluster of each row at each level, the finest first, and its distance to the centroid; None without such a step.
    """
    steps = [step for step in manifest.steps(rows) if step.endswith("_cluster")]
    if not steps:
        return None
    said = manifest.said(rows, steps[-1])
    levels = sum(name.startswith("level_") for name in said)
    return [said[f"level_{number}"].to_numpy() for number in range(1, levels + 1)], said["distance"].to_numpy()
