"""Figures made of images: what a model finds alike, and what curation found double."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ssl_tasks.evaluate.report.palette import WIDTH
from ssl_tasks.report.theme import Theme

Picture = NDArray[np.uint8]
"""One image, (3, S, S)."""
PICTURE = 96
"""Encoder size, in pixels, as for which pictures are stored: larger ones are not told apart in a grid."""

_HEAD = 0.24
"""Height of the line of text above the pictures, in inches."""
_GAP = 1.42
"""Where the neighbours begin, in cells."""
_PAIR, _PAIRS = 2.4, 4
"""Width of a pair in cells; pairs a row."""
_LABEL, _BETWEEN, _LARGEST = 1.0, 0.2, 0.95
"""Width of a row's label in inches; gap between pictures that do not belong together, in cells; side of the largest cell in inches."""


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
    cell = WIDTH / (_GAP + max(len(h.nearest) for h in hoods))
    figure, axes = _sheet(cell * len(hoods))
    for row, hood in enumerate(hoods):
        y = cell * (len(hoods) - 1 - row)
        _show(axes, hood.query, 0, y, cell, theme.ink, 1.6)
        for column, picture in enumerate(hood.nearest):
            x = cell * (_GAP + column)
            right = None if hood.right is None else hood.right[column]
            _show(axes, picture, x, y, cell, theme.line if right is None else theme.right if right else theme.wrong, 2.4 if right is False else 1.2)
            if right is False:
                near, far = x + 0.12 * cell, x + 0.32 * cell
                high, low = y + 0.88 * cell, y + 0.68 * cell
                axes.plot([near, far, np.nan, near, far], [high, low, np.nan, low, high], color=theme.wrong, linewidth=2)
    _head(axes, 0.05 * cell, "query", theme.ink)
    _head(axes, (_GAP + 0.05) * cell, "nearest train images", theme.muted)
    return figure


def pairs(couples: Sequence[tuple[Picture, Picture]], theme: Theme) -> Figure:
    """Each kept image beside the one that was removed as its duplicate."""
    cell = WIDTH / (_PAIR * _PAIRS - (_PAIR - 2))
    rows = -(-len(couples) // _PAIRS)
    figure, axes = _sheet(rows * cell * 1.15)
    for i, (kept, removed) in enumerate(couples):
        x, y = (i % _PAIRS) * _PAIR * cell, (rows - 1 - i // _PAIRS) * cell * 1.15
        _show(axes, kept, x, y, cell, theme.right, 1.4)
        _show(axes, removed, x + cell, y, cell, theme.wrong, 1.4)
    _head(axes, 0.05 * cell, "kept", theme.right)
    _head(axes, 1.05 * cell, "removed", theme.wrong)
    return figure


def grid(rows: Sequence[Sequence[Picture | None]], heads: Mapping[int, str], theme: Theme, labels: Sequence[str] = (), together: int = 0) -> Figure:
    """Pictures in rows.

    Args:
        heads: of some columns, above them.
        labels: of each row, left of it.
        together: how many pictures of a row belong together, so that a gap follows them; 0 where none do.
    """
    columns = max(len(row) for row in rows)
    before = _LABEL if labels else 0.0
    gaps = _BETWEEN * ((columns - 1) // together) if together else 0.0
    cell = min((WIDTH - before) / (columns + gaps), _LARGEST)
    figure, axes = _sheet(cell * len(rows), bool(heads))

    def left(column: int) -> float:
        return before + cell * (column + (_BETWEEN * (column // together) if together else 0.0))

    for number, row in enumerate(rows):
        y = cell * (len(rows) - 1 - number)
        for column, picture in enumerate(row):
            if picture is not None:
                _show(axes, picture, left(column), y, cell, theme.line, 0.8)
        if labels:
            axes.text(0.05, y + cell / 2, labels[number], fontsize=8, color=theme.ink, va="center")
    for column, text in heads.items():
        _head(axes, left(column) + 0.05 * cell, text, theme.muted)
    return figure


def coloured(values: NDArray[np.floating]) -> Picture:
    """A map (H, W) of values in [0, 1] as a picture, dark to bright."""
    import matplotlib

    painted: Picture = (matplotlib.colormaps["magma"](values)[..., :3] * 255).round().astype(np.uint8).transpose(2, 0, 1)
    return painted


def _sheet(height: float, headed: bool = True) -> tuple[Figure, Axes]:
    """A figure whose only axes count in inches from the lower left, with room for a line of text at its top."""
    top = height + _HEAD * headed
    figure = Figure(figsize=(WIDTH, top))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set(xlim=(0, WIDTH), ylim=(0, top))
    return figure, axes


def _show(axes: Axes, picture: Picture, x: float, y: float, cell: float, frame: str, width: float) -> None:
    """A picture with a frame in the cell whose lower left is (x, y)."""
    side, margin = 0.9 * cell, 0.05 * cell
    extent = (x + margin, x + margin + side, y + margin, y + margin + side)
    axes.imshow(picture.transpose(1, 2, 0), interpolation="antialiased", extent=extent, aspect="auto")
    axes.add_patch(Rectangle((extent[0], extent[2]), side, side, fill=False, edgecolor=frame, linewidth=width))


def _head(axes: Axes, x: float, text: str, colour: str) -> None:
    axes.text(x, axes.get_ylim()[1] - 0.07, text, fontsize=8.5, color=colour, fontweight="bold", va="top")
