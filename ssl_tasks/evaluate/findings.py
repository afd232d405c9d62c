"""Findings: what protocols give, and how they say that they give nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ssl_tasks.report.theme import Theme


@dataclass(frozen=True)
class Number:
    """A metric of a model.

    Attributes:
        metric: of `metrics.METRICS`.
        values: one a draw; the draws are the same for all models.
        n: images or other items that it rests on.
        items: of each item its score, whose mean is the value, in an order that is the same for all models; for intervals and paired tests. With
            several draws the mean over these. None where the value is no mean of items.
    """

    metric: str
    values: list[float]
    n: int
    items: NDArray[np.floating] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Plate:
    """A figure, its place on the page and its words.

    Attributes:
        name: of its file; unique on a page.
        section: of the page: `results`, `looks`, `health`, `costs` or `curation`.
        caption: says what is seen; what a reader without eyes for it needs.
    """

    name: str
    section: str
    title: str
    caption: str
    draw: Callable[[Theme], Figure]


Finding = Number | Plate


def right(chosen: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Whether each item got its class, 1 or 0."""
    found: NDArray[np.float64] = np.equal(chosen, labels).astype(np.float64)
    return found


class Skipped(Exception):
    """A protocol says nothing of a model; the message says why, after the model's name: `is no classifier`."""
