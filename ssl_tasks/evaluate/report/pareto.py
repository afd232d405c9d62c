"""What models reach against what they take, and which of them nothing beats in both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from ssl_tasks.evaluate.report import words
from ssl_tasks.evaluate.report.palette import WIDTH, Style, dress
from ssl_tasks.report.theme import Theme

LOGARITHMIC = 3
"""How much the dearest must cost more than the cheapest for a logarithmic scale."""


@dataclass(frozen=True)
class Point:
    """A model, or all seeds of it.

    Attributes:
        value: what it reaches, in percent, between `low` and `high`.
        prices: by the title of the panel what it takes.
    """

    name: str
    value: float
    low: float
    high: float
    prices: Mapping[str, float]


def front(points: Sequence[Point], price: str) -> list[Point]:
    """Those that no other beats: none reaches as much for less, or more for as little. The cheapest first."""
    on_front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.prices[price], -p.value)):
        if not on_front or point.value > on_front[-1].value:
            on_front.append(point)
    return on_front


def pareto(points: Sequence[Point], of: str, styles: Mapping[str, Style], theme: Theme) -> Figure:
    """A panel a price, a marker a model with its 95% interval; the front is a line, and what lies off it is pale.

    Args:
        points: all with the same prices.
        of: what is reached.
        styles: of each point, by its name.
    """
    prices = list(points[0].prices)
    figure = Figure(figsize=(WIDTH, 2.75 + 0.16 * -(-len(points) // 3)), layout="constrained")
    panels = figure.subplots(1, len(prices), sharey=True, squeeze=False)[0]
    for axes, price in zip(panels, prices, strict=True):
        dress(axes, price, theme)
        axes.grid(axis="x", color=theme.line, linewidth=0.7)
        _panel(axes, points, price, styles, theme)
    low, high = (edge(point.value for point in points) for edge in (min, max))
    span = max(high - low, 1.0)
    low, high = max(low - span, min(point.low for point in points)), min(high + span, max(point.high for point in points))
    panels[0].set_ylim(low - 0.06 * span, high + 0.06 * span)
    panels[0].yaxis.set_major_locator(MaxNLocator(5))
    panels[0].set_ylabel(f"{of}, %", fontsize=8, color=theme.muted)
    marks = [_mark(styles[point.name], theme) for point in points]
    figure.legend(
        [*marks, Line2D([], [], color=theme.ink, linewidth=1)], [*(point.name for point in points), "front"],
        loc="outside upper left", ncols=3, frameon=False, fontsize=8, labelcolor=theme.ink, handlelength=1.4,
    )  # fmt: skip
    return figure


def _panel(axes: Axes, points: Sequence[Point], price: str, styles: Mapping[str, Style], theme: Theme) -> None:
    best = front(points, price)
    most = max(point.prices[price] for point in points)
    steps = [*((point.prices[price], point.value) for point in best), (most * 1.3, best[-1].value)]
    axes.step(*zip(*steps, strict=True), where="post", color=theme.ink, linewidth=1, zorder=1)
    for point in points:
        x, alpha = point.prices[price], 1.0 if point in best else 0.5
        colour = styles[point.name].colour(theme)
        axes.vlines(x, point.low, point.high, color=colour, linewidth=1.2, alpha=alpha)
        axes.plot(x, point.value, "o", color=colour, markerfacecolor=theme.card, markersize=6.5, markeredgewidth=0, zorder=2.5)
        fill = "none" if styles[point.name].hollow else colour
        axes.plot(x, point.value, "o", color=colour, markerfacecolor=fill, markersize=6.5, markeredgewidth=1.5, alpha=alpha, zorder=3)
    least = min(point.prices[price] for point in points)
    ratio = most / least
    if ratio >= LOGARITHMIC:
        axes.set_xscale("log")
        axes.set_xlim(least / ratio**0.08 / 1.1, most * ratio**0.08 * 1.1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 30 else (1, 3) if ratio < 1000 else (1,), numticks=6))
    else:
        axes.set_xlim(least - 0.1 * (most - least) - 0.02 * most, most + 0.1 * (most - least) + 0.02 * most)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.big(value) if value >= 1000 else f"{value:g}"))
    axes.minorticks_off()


def _mark(style: Style, theme: Theme) -> Line2D:
    colour = style.colour(theme)
    return Line2D([], [], marker="o", linestyle="none", color=colour, markerfacecolor="none" if style.hollow else colour, markersize=6, markeredgewidth=1.5)
