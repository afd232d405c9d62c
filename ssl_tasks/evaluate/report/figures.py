"""Charts: models by protocol, training curves, the map of the embeddings, the curation funnel. Numbers in, Figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ssl_tasks.evaluate.report.palette import WIDTH, Style, dress, entitle
from ssl_tasks.evaluate.report.words import MINUS
from ssl_tasks.evaluate.results import Row
from ssl_tasks.report.theme import Theme

Curve = tuple[list[float], list[float]]
"""Steps, and the value at each."""

_SPAN = 25.0
"""Points below the best that an axis shows at most: what lies lower is drawn as an arrow at its edge."""


def dots(rows: Sequence[tuple[str, Row]], titles: Mapping[str, str], styles: Mapping[str, Style], theme: Theme) -> Figure:
    """A dot a model in each protocol that gives an accuracy, with one standard deviation over draws as a line.

    Args:
        rows: each with the name to show it by.
        titles: of each protocol, by its name.
    """
    scored = [(name, row) for name, row in rows if row.metric == "accuracy"]
    protocols = list(dict.fromkeys(row.protocol for _, row in scored))
    models = list(dict.fromkeys(name for name, _ in scored))[::-1]
    figure = Figure(figsize=(WIDTH, 0.75 + 0.27 * len(models)), layout="constrained")
    panels = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
    for axes, protocol in zip(panels, protocols, strict=True):
        dress(axes, titles[protocol], theme)
        here = [(name, row) for name, row in scored if row.protocol == protocol]
        steady = [row.value * 100 for _, row in here if row.role != "random"] or [row.value * 100 for _, row in here]
        low = max(min(steady) - 2, max(steady) - _SPAN)
        high = max(steady) + 0.06 * (max(steady) - low) + 0.3
        axes.set_xlim(low - (high - low) * 0.06, high)
        for name, row in here:
            y, colour = models.index(name), styles[name].colour(theme)
            value, spread = row.value * 100, (row.spread or 0.0) * 100
            if value < low:
                axes.plot(low, y, "<", color=colour, markersize=5, clip_on=False)
                axes.text(low + (high - low) * 0.05, y, f"{value:.0f}", color=theme.muted, fontsize=7.5, va="center")
                continue
            axes.hlines(y, max(value - spread, low), value + spread, color=colour, linewidth=1.4)
            fill = "none" if styles[name].hollow else colour
            axes.plot(value, y, "o", color=colour, markerfacecolor=fill, markersize=6, markeredgewidth=1.5, clip_on=False)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_ylim(-0.6, len(models) - 0.4)
    panels[0].set_yticks(range(len(models)), models)
    panels[0].tick_params(axis="y", labelsize=8.5, labelcolor=theme.ink)
    return figure


def curves(panels: Mapping[str, Mapping[str, Curve]], styles: Mapping[str, Style], theme: Theme) -> Figure:
    """Training curves: a panel a quantity, a line a model.

    Args:
        panels: title to model to curve.
    """
    rows = (len(panels) + 1) // 2
    figure = Figure(figsize=(WIDTH, 0.55 + 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 if len(panels) > 1 else 1, squeeze=False).flat
    drawn = {}
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        dress(axes, title, theme)
        for name, (steps, values) in lines.items():
            style = styles[name]
            drawn[name] = axes.plot(steps, values, color=style.colour(theme), linewidth=1.5, linestyle=(0, (4, 2)) if style.hollow else "-")[0]
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(left=0)
    for axes in list(figure.axes)[len(panels) :]:
        axes.set_visible(False)
    for axes in figure.axes[max(0, len(panels) - 2) : len(panels)]:
        axes.set_xlabel("step", fontsize=8, color=theme.muted)
    ordered = [name for name in styles if name in drawn]
    figure.legend(
        [drawn[n] for n in ordered], ordered, loc="outside upper left", ncols=3, frameon=False, fontsize=8, labelcolor=theme.ink, handlelength=1.8
    )  # fmt: skip
    return figure


def embedding_map(maps: Mapping[str, NDArray[np.floating]], labels: NDArray[np.integer], classes: Sequence[str], theme: Theme) -> Figure:
    """The same images as each model places them in the plane, coloured by class, each class named at its middle.

    Args:
        maps: model to places, (N, 2).
        labels: class of each, (N,), -1 where it has none.
    """
    columns = min(2, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(WIDTH, rows * WIDTH / columns * 0.98), layout="constrained")
    for axes, (name, places) in zip(figure.subplots(rows, columns, squeeze=False).flat, maps.items(), strict=False):
        entitle(axes, name, theme)
        axes.scatter(*places.T, s=9, c=class_colours(labels, len(classes), theme), alpha=0.8, linewidths=0)
        for index in np.unique(labels[labels >= 0]) if len(classes) <= 20 else []:
            middle = np.median(places[labels == index], axis=0)
            ground = [withStroke(linewidth=2.5, foreground=theme.card)]
            axes.text(*middle, classes[index], fontsize=10, ha="center", va="center", color=theme.ink, fontweight="bold", path_effects=ground)
        axes.set_box_aspect(1)
    for axes in figure.axes:
        axes.set_axis_off()
        axes.margins(0.06)
    return figure


def class_colours(labels: NDArray[np.integer], classes: int, theme: Theme) -> list[str]:
    """A colour a row: evenly spaced hues of equal chroma, grey without a label."""
    from colorsys import hls_to_rgb

    from matplotlib.colors import to_hex

    wheel = [to_hex(hls_to_rgb((i * 0.618) % 1 if classes > 20 else i / max(classes, 1), theme.lightness, 0.62)) for i in range(classes)]
    return [wheel[label] if label >= 0 else theme.muted for label in labels]


def funnel(counts: Mapping[str, int], theme: Theme) -> Figure:
    """How many images each step of a curation leaves.

    Args:
        counts: from `listed` through each step's name to what is left after it, in order.
    """
    figure = Figure(figsize=(WIDTH, 0.25 + 0.38 * len(counts)), layout="constrained")
    axes = figure.subplots()
    dress(axes, "", theme)
    axes.grid(False)
    total = max(*counts.values(), 1)
    before = total
    for y, left in enumerate(counts.values()):
        axes.barh(y, before, height=0.62, color=theme.line)
        axes.barh(y, left, height=0.62, color=theme.hues[0])
        lost = f"  {MINUS}{before - left:,}" if left < before else ""
        axes.text(total * 1.02, y, f"{left:,}", color=theme.ink, fontsize=9, va="center", fontweight="bold")
        axes.text(total * 1.16, y, lost, color=theme.muted, fontsize=8.5, va="center")
        before = left
    axes.set_yticks(range(len(counts)), list(counts))
    axes.tick_params(axis="y", labelsize=9, labelcolor=theme.ink)
    axes.invert_yaxis()
    axes.set_xlim(0, total * 1.32)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return figure
