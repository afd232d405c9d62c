"""Montages of clusters, and their sizes before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssl_tasks.curate.report.counts import stepped
from ssl_tasks.curate.report.pictures import Album
from ssl_tasks.curate.report.scenes import Scene
from ssl_tasks.curate.report.story import Story
from ssl_tasks.data import manifest

CLUSTERS, NEAREST = 24, 8
"""Clusters that are shown; images of each."""
WIDEST = 400
"""Clusters whose sizes are drawn one by one."""


@dataclass(frozen=True)
class Profile:
    """Sizes of clusters, the largest first: SVG paths in a box of 100 x 100.

    Attributes:
        largest: before; `largest_after`: after.
    """

    before: str
    after: str
    largest: int
    largest_after: int
    count: int


def clusters(story: Story, album: Album) -> tuple[list[Scene], list[tuple[int, int]]]:
    """The largest clusters, each by the images nearest to its centroid where that is known; and all sizes before and after, largest first."""
    members = pc.fill_null(story.after["cluster"], -1).to_numpy()
    members = np.where(story.came, members, -1)
    inside = np.flatnonzero(members >= 0)
    if not len(inside):
        return [], []
    before = np.bincount(members[inside])
    after = np.bincount(members[story.stays & (members >= 0)], minlength=len(before))
    order = np.lexsort((np.arange(len(before)), -before))
    order = order[before[order] > 0]
    away = centrality(story)
    by_cluster = inside[np.lexsort((inside, np.zeros(len(inside)) if away is None else away[inside], members[inside]))]
    starts = np.searchsorted(members[by_cluster], order)
    scenes = []
    for cluster, start in zip(order[:CLUSTERS].tolist(), starts.tolist(), strict=False):
        rows = by_cluster[start : start + before[cluster]][:NEAREST]
        tiles = [tile for row in rows.tolist() for tile in album.of(story.after, [row], [], "" if story.stays[row] else "gone")]
        size = f"{before[cluster]:,}" + (f" \N{RIGHTWARDS ARROW} {after[cluster]:,}" if after[cluster] < before[cluster] else "")
        scenes.append(Scene(f"{cluster}", tiles, size=size))
    return scenes, list(zip(before[order].tolist(), after[order].tolist(), strict=True))


def centrality(story: Story) -> NDArray[np.float64] | None:
    """Distance of each row to its centroid, by the last step that tells it."""
    for told in reversed(story.told):
        values = manifest.said(story.after, told["step"]).get("distance")
        if values is not None and told["step"].rpartition("_")[2] in ("cluster", "balance"):
            return np.asarray(pc.cast(values, pa.float64()).fill_null(float("inf")))
    return None


def profile(sizes: Sequence[tuple[int, int]]) -> Profile | None:
    """How large the clusters are, before and after; None where there are too few to draw."""
    if len(sizes) < 3:
        return None
    before, after = (np.array(each, float) for each in zip(*sizes, strict=True))
    points = np.linspace(0, len(sizes) - 1, min(len(sizes), WIDEST)).round().astype(int)
    after = -np.sort(-after)
    top = before.max()
    return Profile(stepped(before[points] / top), stepped(after[points] / top), int(top), int(after.max()), len(sizes))
