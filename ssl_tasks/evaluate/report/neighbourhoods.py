"""Test images and the train images that a model finds nearest to them: the grid of every report, and of the protocol `gallery`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_tasks.data.store import side_for, squares
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.neighbours import Floats, Ints, neighbours
from ssl_tasks.evaluate.report.pictures import PICTURE, Neighbourhood, neighbour_grid
from ssl_tasks.evaluate.split import Split

NEIGHBOURS, QUERIES = 8, 8
"""Shown of a query, and queries in a grid."""


def nearest(features: Floats, parts: Split, device: str = "cpu") -> Ints:
    """Rows of the table that are nearest to each query by cosine, (Q, 8), of the train images with a label or else of all.

    Args:
        features: of every row of the table.
    """
    train = parts.bank if parts.labelled else parts.train
    return np.asarray(train[neighbours(features[train], features[parts.queries], min(NEIGHBOURS, len(train)), device)[1]])


def right(near: Ints, parts: Split) -> NDArray[np.bool_]:
    """Whether each query's neighbours are of its class, (Q, 8)."""
    return np.asarray(parts.labels[near] == parts.labels[parts.queries][:, None])


def chosen(near: Ints, parts: Split, seed: int, count: int = QUERIES) -> Ints:
    """Positions among the queries to show: half of them drawn at random, half those with the most neighbours of another class."""
    drawn = np.random.default_rng(seed).permutation(len(parts.queries))
    if not parts.labelled:
        return drawn[:count]
    hardest = np.argsort(-(~right(near, parts)).sum(1), kind="stable")[: count // 2]
    return np.concatenate([drawn[~np.isin(drawn, hardest)][: count - len(hardest)], hardest])


def plate(name: str, title: str, model: str, near: Ints, parts: Split, workspace: Path, seed: int, count: int = QUERIES) -> Plate:
    """The grid of one model's neighbours.

    Args:
        name, title: of the plate.
        near: from `nearest`.
        count: queries that are shown.
    """
    queries = chosen(near, parts, seed, count)
    rows = np.concatenate([parts.queries[queries][:, None], near[queries]], axis=1)
    listed = parts.table.take(rows.ravel().tolist())
    shown = list(squares(listed, workspace, side_for(listed, PICTURE), 3))
    marks = right(near, parts)[queries].tolist() if parts.labelled else [None] * len(queries)
    width = rows.shape[1]
    hoods = [Neighbourhood(shown[i * width], shown[i * width + 1 : (i + 1) * width], mark) for i, mark in enumerate(marks)]
    caption = f"Test images and their nearest train images by {model} (cosine)."
    if parts.labelled:
        caption += f" The first {len(queries) - count // 2} are drawn at random, the others have the most neighbours of another class (crossed, red)."
    return Plate(name, "looks", title, caption, lambda theme: neighbour_grid(hoods, theme))
