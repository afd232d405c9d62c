"""Figures made of images: what a model finds alike, and what curation found double."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ssl_tasks.evaluate.palette import WIDTH, Theme

Picture = NDArray[np.uint8]
"""One image, (3, S, S)."""


@dataclass(frozen=True)
class Neighbourhood:
    """A query and what lies nearest to it.

    Attributes:
        right: whether each neighbour is of the query's class; None without labels.
    """

    query: Picture
    nearest: Sequence[Picture]
    right: Sequence[bool] | None


def neighbour_grid(hoods: Sequence[Neighbourhood], theme: Theme) -> Figure:
    """A row a query: the query, then its neighbours, nearest first, each of another class crossed and framed in red."""
    columns = 1 + max(len(h.nearest) for h in hoods)
    cell = WIDTH / (columns + 0.45)
    figure = Figure(figsize=(WIDTH, cell * len(hoods) + 0.22))
    high = 1 - 0.22 / figure.get_figheight()
    wide, tall = cell / WIDTH, cell / figure.get_figheight()
    for row, hood in enumerate(hoods):
        bottom = high - (row + 1) * tall
        _show(figure.add_axes((0.03 * wide, bottom + 0.05 * tall, 0.9 * wide, 0.9 * tall)), hood.query, theme.ink, 1.6)
        for column, picture in enumerate(hood.nearest):
            axes = figure.add_axes((wide * (1.42 + column), bottom + 0.05 * tall, 0.9 * wide, 0.9 * tall))
            right = None if hood.right is None else hood.right[column]
            _show(axes, picture, theme.line if right is None else theme.right if right else theme.wrong, 1.2 if right else 2.4)
            if right is False:
                axes.plot([0.08, 0.3], [0.92, 0.7], [0.08, 0.3], [0.7, 0.92], color=theme.wrong, linewidth=2, transform=axes.transAxes)
    figure.text(0.03 * wide, high + 0.02, "query", fontsize=8.5, color=theme.ink, fontweight="bold", va="bottom")
    figure.text(wide * 1.42, high + 0.02, "nearest train images", fontsize=8.5, color=theme.muted, va="bottom")
    return figure


def pairs(couples: Sequence[tuple[Picture, Picture]], theme: Theme) -> Figure:
    """Each kept image beside the one that was removed as its duplicate."""
    columns = min(4, len(couples))
    rows = -(-len(couples) // columns)
    cell = WIDTH / (2.4 * 4)
    figure = Figure(figsize=(WIDTH, rows * cell * 1.18 + 0.22))
    wide, tall = cell / WIDTH, cell / figure.get_figheight()
    high = 1 - 0.22 / figure.get_figheight()
    for i, (kept, removed) in enumerate(couples):
        left, bottom = (i % columns) * 2.4 * wide, high - (i // columns + 1) * tall * 1.18 + 0.12 * tall
        _show(figure.add_axes((left + 0.04 * wide, bottom, wide, tall)), kept, theme.right, 1.4)
        _show(figure.add_axes((left + 1.12 * wide, bottom, wide, tall)), removed, theme.wrong, 1.4)
    figure.text(0.04 * wide, high + 0.02, "kept", fontsize=8.5, color=theme.right, fontweight="bold", va="bottom")
    figure.text(1.12 * wide, high + 0.02, "removed", fontsize=8.5, color=theme.wrong, fontweight="bold", va="bottom")
    return figure


def _show(axes: Axes, picture: Picture, frame: str, width: float) -> None:
    axes.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=frame, linewidth=width, clip_on=False))
