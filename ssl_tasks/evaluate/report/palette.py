"""One colour a model in every figure, for a light and for a dark page."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schemas.naming import group
from schemas.stages import Comparison
from ssl_tasks.evaluate.results import Role
from ssl_tasks.report.theme import Theme

WIDTH = 4.7
"""Of every figure, in inches: with 9-point type it reads at 350 px (a phone) as well as at 500 px."""


@dataclass(frozen=True)
class Style:
    """How a model is drawn.

    Attributes:
        hue: index into the theme's hues; -1 is the theme's muted grey.
        hollow: an empty marker and a dashed line: not distilled, or not trained.
    """

    hue: int
    hollow: bool

    def colour(self, theme: Theme) -> str:
        """The colour on a page of that theme."""
        return theme.muted if self.hue < 0 else theme.hues[self.hue % len(theme.hues)]


def styles(roles: Mapping[str, Role], comparisons: Sequence[Comparison]) -> dict[str, Style]:
    """A style for each model: a hue each, but all seeds of a student and the same network alone share theirs; baselines are grey."""
    of = {group(c.alone): group(c.student) for c in comparisons if c.alone}
    hues: dict[str, int] = {}
    first = next((group(name) for name, role in roles.items() if role == "teacher"), "")

    def style(name: str, role: Role) -> Style:
        if role in ("pixels", "random"):
            return Style(-1, role == "random")
        called = of.get(group(name), group(name))
        return Style(0 if called == first else hues.setdefault(called, len(hues) + 1), role == "alone")

    return {name: style(name, role) for name, role in roles.items()}


def dress(axes: Axes, title: str, theme: Theme) -> None:
    """Quiet axes: no frame but a base line, muted ticks, a title at the left."""
    axes.patch.set_alpha(0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)
    axes.tick_params(colors=theme.muted, labelsize=8, length=0, pad=4)
    axes.grid(axis="y", color=theme.line, linewidth=0.7)
    axes.set_axisbelow(True)
    entitle(axes, title, theme)


def entitle(axes: Axes, title: str, theme: Theme) -> None:
    """A small bold title at the left."""
    axes.set_title(title, fontsize=9.5, loc="left", fontweight="bold", color=theme.ink)


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure's bytes as PNG, on a transparent ground."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, transparent=True, metadata={"Software": None})
    return buffer.getvalue()
