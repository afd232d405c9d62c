"""Keep one image of each connected component of the graph of near duplicates.

The self-deduplication of DINOv2: Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, 2023,
https://arxiv.org/abs/2304.07193, appendix A. Images are joined to those of their nearest neighbours whose cosine is above a
threshold; joins chain, and of each chain one image remains.

Differs from the paper: the search is exact where theirs is approximate; the embedding is the user's choice, not a copy
detector's; of a component the largest image is kept, where the paper does not say which.
"""

from collections.abc import Sequence

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.curation import Deduplicate
from ssl_tasks.curate.decisions import Decisions, Removed, representatives

ROUNDING = 1e-6
"""Of a float32 cosine: equal vectors count as above a threshold of 1."""


def deduplicate(ids: Sequence[int], areas: Sequence[int], embeddings: NDArray[np.float32], config: Deduplicate) -> Decisions:
    """Keep of each component the image of largest area, then of lowest id.

    Args:
        areas: width times height of each row.
        embeddings: (N, dim), of length 1.
    """
    components, near = component_of(embeddings, config.similarity, config.neighbours)
    stands_for = representatives(components.tolist(), ids, areas)
    removed = [Removed(id_, "near duplicate", kept) for id_, kept in stands_for.items() if kept != id_]
    sizes = np.bincount(components) if len(components) else np.zeros(1, int)
    return Decisions(removed, metrics={"pairs": near, "components": int((sizes > 1).sum()), "largest_component": int(sizes.max())})


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
