"""Figures of what patches carry from image to image: masks through a video, points to another picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray

from ssl_tasks.evaluate.report.palette import WIDTH
from ssl_tasks.report.theme import Theme

_OPACITY = 0.55
"""Of a mask over its frame."""


@dataclass(frozen=True)
class Carried:
    """Moments of a video.

    Attributes:
        frames: in grey, (H, W) each.
        masks: which object each pixel is taken to be of, (H, W) each; 0 for none.
    """

    frames: list[NDArray[np.floating]]
    masks: list[NDArray[np.int64]]


@dataclass(frozen=True)
class Matches:
    """A pair of pictures and where points of the one were found in the other.

    Attributes:
        source, target: (C, H, W) each, grey or RGB.
        points, found: x and y in pixels, (n, 2) each.
        right: (n,), whether each was found.
    """

    source: NDArray[np.uint8]
    target: NDArray[np.uint8]
    points: NDArray[np.float64]
    found: NDArray[np.float64]
    right: NDArray[np.bool_]


def carried(videos: Sequence[Carried], theme: Theme) -> Figure:
    """A row a video, a column a moment, the first at the left; frames in grey, one colour an object."""
    columns = max(len(video.frames) for video in videos)
    figure, panels = _panels(len(videos), columns, [video.frames[0].shape for video in videos])
    for row, video in zip(panels, videos, strict=True):
        for axes, frame, mask in zip(row, video.frames, video.masks, strict=False):
            picture = np.repeat(frame[..., None] / 255, 3, axis=2)
            for number in np.unique(mask[mask > 0]).tolist():
                here = mask == number
                picture[here] += _OPACITY * (np.array(to_rgb(theme.hues[number % len(theme.hues)])) - picture[here])
            axes.imshow(picture)
    return figure


def matches(found: Sequence[Matches], theme: Theme) -> Figure:
    """Two pairs a row, a line from each point to where it was found."""
    rows = -(-len(found) // 2)
    figure, panels = _panels(rows, 4 if len(found) > 1 else 2, [match.source.shape[1:] for match in found[::2]])
    cells = [axes for row in panels for axes in row]
    for left, right, match in zip(cells[::2], cells[1::2], found, strict=False):
        for axes, image in ((left, match.source), (right, match.target)):
            axes.imshow(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))
        for point, place, is_right in zip(match.points - 0.5, match.found - 0.5, match.right, strict=True):
            colour = theme.right if is_right else theme.wrong
            left.plot(*point, "o", color=colour, markersize=3)
            right.plot(*place, "o" if is_right else "x", color=colour, markersize=3 if is_right else 5)
            figure.add_artist(ConnectionPatch(point, place, "data", axesA=left, axesB=right, color=colour, linewidth=0.8, alpha=0.7))
    return figure


def _panels(rows: int, columns: int, sizes: Sequence[tuple[int, ...]]) -> tuple[Figure, list[list[Axes]]]:
    """Empty axes, each row as high as its first picture of a height and width asks for."""
    heights = [height / width for height, width in sizes]
    figure = Figure(figsize=(WIDTH, WIDTH / columns * sum(heights)))
    panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"height_ratios": heights, "wspace": 0.05, "hspace": 0.05})
    figure.subplots_adjust(0, 0, 1, 1)
    for axes in panels.flat:
        axes.set_axis_off()
    return figure, panels.tolist()
