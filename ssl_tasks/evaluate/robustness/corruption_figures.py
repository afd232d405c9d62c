"""Figures of corruptions: the error under each in each severity, and one image under all of them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ssl_tasks.evaluate.report.palette import WIDTH, entitle
from ssl_tasks.report.theme import Theme


def table(errors: NDArray[np.floating], clean: float, kinds: Sequence[str], severities: Sequence[int], theme: Theme) -> Figure:
    """Errors in percent, a row a corruption and a column a severity, the darker the worse.

    Args:
        errors: (corruptions, severities), shares.
        clean: the error without any.
    """
    figure = Figure(figsize=(WIDTH, 0.55 + 0.23 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    entitle(axes, f"error in %; {100 * clean:.1f} on clean images", theme)
    axes.imshow(errors, cmap=LinearSegmentedColormap.from_list("errors", [theme.card, theme.wrong]), vmin=0, vmax=1.4, aspect="auto")
    for y, row in enumerate(errors):
        for x, value in enumerate(row):
            axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=theme.ink)
    axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    axes.set_xticks(range(len(severities)), [f"severity {severity}" for severity in severities])
    axes.tick_params(colors=theme.ink, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.patch.set_alpha(0)
    return figure


def strip(pictures: NDArray[np.uint8], titles: Sequence[str], theme: Theme) -> Figure:
    """Pictures (N, C, S, S) of one image, four a row."""
    rows = -(-len(pictures) // 4)
    figure = Figure(figsize=(WIDTH, rows * (WIDTH / 4 + 0.12)), layout="constrained")
    for axes, picture, title in zip(figure.subplots(rows, 4, squeeze=False).flat, pictures, titles, strict=False):
        axes.imshow(picture.transpose(1, 2, 0) if len(picture) == 3 else picture[0], cmap="grey", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title.replace("_", " "), fontsize=7.5, color=theme.ink, pad=2)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
