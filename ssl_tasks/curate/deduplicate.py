"""Keep one image of each connected component of the graph of near duplicates.

The self-deduplication of DINOv2: Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, 2023,
https://arxiv.org/abs/2304.07193, appendix A. Images are joined to those of their nearest neighbours whose cosine is above a
threshold; joins chain, and of each chain one image remains.

Differs from the paper: the search is exact where theirs is approximate; the embedding is the user's choice, not a copy
detector's; of a component the largest image is kept, where the paper does not say which.
"""

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.curation import Deduplicate
from ssl_tasks.curate.decisions import NOBODY, Decisions, representatives
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import column

ROUNDING = 1e-6
"""Of a float32 cosine: equal vectors count as above a threshold of 1."""


def deduplicate(pool: Pool, config: Deduplicate) -> Decisions:
    """Keep of each component the image of most pixels, then the sharpest, then of lowest id."""
    assert isinstance(config.threshold, float)
    seen = pool.pictures()
    components, near = component_of(pool.embeddings(config.embedding), config.threshold, config.neighbours)
    area = column(seen, "width").astype(np.int64) * column(seen, "height")
    stands = representatives(components, -area)
    removed = stands != np.arange(len(stands))
    sizes = np.bincount(components, minlength=1)
    metrics = {"pairs": near, "components": int((sizes > 1).sum()), "largest_component": int(sizes.max())}
    return Decisions(removed, "near duplicate", np.where(removed, pool.ids[stands], NOBODY), said={"component": components}, metrics=metrics)


def component_of(embeddings: NDArray[np.float32], similarity: float, neighbours: int) -> tuple[NDArray[np.int32], int]:
    """Number of each row's component, and how many pairs of rows are joined."""
    count = len(embeddings)
    index = faiss.IndexFlatIP(embeddings.shape[1])
    index.add(embeddings)
    cosines, nearest = index.search(embeddings, min(neighbours + 1, count))
    rows, ranks = np.nonzero(cosines >= similarity - ROUNDING)
    columns = nearest[rows, ranks]
    ends = np.stack([np.minimum(rows, columns), np.maximum(rows, columns)])
    pairs = np.unique(ends[:, ends[0] < ends[1]], axis=1)
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(count, count))
    return connected_components(graph, directed=False)[1], pairs.shape[1]
