"""Keep one image of each connected component of the graph of near duplicates.

The self-deduplication of DINOv2: Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, 2023,
https://arxiv.org/abs/2304.07193, appendix A. Images are joined to those of their nearest neighbours whose cosine is above a
threshold; joins chain, and of each chain one image remains. How wide each chain is, that is the lowest cosine between any two of
its images, is told; with `linkage: complete` chains are cut until it is above the threshold.

An image whose vector has no direction, as that of equal pixels, is nobody's near duplicate.

Differs from the paper: the embedding is the user's choice, not a copy detector's; the largest image of a component is kept, where
the paper does not say which; the recall of the search is measured; linkage and calibration are additions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.curation import Deduplicate
from ssl_tasks.curate.calibrate import calibrated
from ssl_tasks.curate.components import WHOLE, components_of, cut, lowest_cosines, members
from ssl_tasks.curate.decisions import NOBODY, Decisions, representatives
from ssl_tasks.curate.indexes import Ints, Vectors
from ssl_tasks.curate.neighbours import Near, cosine, near
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import column

SHOWN = 24
"""Groups that the report names, the largest first, and images of each."""
FAR = 0.1
"""By how much the least alike images of the largest component may fall short of the threshold before a note says so."""


def deduplicate(pool: Pool, config: Deduplicate) -> Decisions:
    """Keep of each component the image of most pixels, then the sharpest, then of lowest id.

    Raises:
        UserError: where an image gives no picture, or no threshold has the precision that is asked for.
    """
    seen, vectors = pool.pictures(), pool.embeddings(config.embedding)
    threshold, calibration = calibrated(pool, config, vectors)
    pairs = near(vectors, threshold, config.neighbours, config.index, pool.seed)
    component = components_of(pairs, len(vectors))
    if config.linkage == "complete":
        component = cut(vectors, component, threshold)
    area = column(seen, "width").astype(np.int64) * column(seen, "height")
    stands = representatives(component, -area, -column(seen, "sharpness"))
    removed = stands != np.arange(len(stands))
    similarity = cosine(vectors, np.arange(len(stands)), vectors, stands)
    groups = members(component)
    groups.sort(key=len, reverse=True)
    lowest = lowest_cosines(vectors, groups, pool.seed)
    flat = int((~vectors.any(1)).sum())
    return Decisions(
        removed,
        "near duplicate",
        np.where(removed, pool.ids[stands], NOBODY),
        said={"component": component, "similarity": similarity},
        metrics=_metrics(pairs, groups, lowest, threshold, flat),
        notes=_notes(pairs, groups, lowest, threshold, config, flat) + calibration.notes,
        report={
            "index": pairs.index,
            "recall": pairs.recall,
            "recall_pairs": pairs.judged,
            "cosine": threshold,
            "linkage": config.linkage,
            "sizes": _histogram([len(rows) for rows in groups]),
            "diameters": np.round(1 - lowest.astype(np.float64), 4).tolist(),
            "diameters_sampled": sum(len(rows) > WHOLE for rows in groups),
            "groups": [_group(pool, rows, stands, low) for rows, low in zip(groups[:SHOWN], lowest.tolist(), strict=False)],
            **calibration.report,
        },
    )


def component_of(vectors: Vectors, threshold: float, neighbours: int = 64) -> tuple[NDArray[np.int32], int]:
    """Number of each row's component, and how many pairs of rows are joined."""
    pairs = near(vectors, threshold, neighbours)
    return components_of(pairs, len(vectors)), len(pairs.rows)


def _metrics(pairs: Near, groups: list[Ints], lowest: NDArray[np.float32], threshold: float, flat: int) -> dict[str, float]:
    found = {
        "threshold": threshold, "pairs": len(pairs.rows), "components": len(groups), "largest_component": max(map(len, groups), default=1),
        "widest_component": float(lowest.min(initial=1)), "without_direction": flat,
    }  # fmt: skip
    return found if pairs.recall is None else {**found, "recall": pairs.recall}


def _notes(pairs: Near, groups: list[Ints], lowest: NDArray[np.float32], threshold: float, config: Deduplicate, flat: int) -> list[str]:
    measured = "" if not pairs.judged else f"; it found {pairs.recall:.1%} of {pairs.judged:,} pairs of a sample that an exact search finds"
    notes = [f"{len(pairs.rows):,} pairs of cosine {threshold:.4g} or more, by index {pairs.index}{measured}"]
    if groups and lowest[0] < threshold - FAR:
        joined = f"the largest component joins {len(groups[0]):,} images down to a cosine of {lowest[0]:.2f}: a chain"
        notes.append(f"{joined}; raise the threshold, or set `linkage: complete`")
    if pairs.crowded:
        notes.append(f"{pairs.crowded:,} images have more than {config.neighbours} near duplicates, of which only the nearest were looked at")
    if flat:
        notes.append(f"{flat:,} images have no direction to compare (equal pixels) and stay: `integrity` removes blank ones")
    return notes


def _histogram(sizes: list[int]) -> dict[str, int]:
    """How many components have each size."""
    values, counts = np.unique(np.array(sizes, np.int64), return_counts=True)
    return dict(zip(map(str, values.tolist()), counts.tolist(), strict=True))


def _group(pool: Pool, rows: Ints, stands: Ints, lowest: float) -> dict[str, Any]:
    return {"size": len(rows), "lowest": round(lowest, 4), "kept": int(pool.ids[stands[rows[0]]]), "ids": pool.ids[rows[:SHOWN]].tolist()}
