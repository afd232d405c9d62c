"""Curves that steps leave in `report.json`: how a threshold was calibrated, how wide components are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_tasks.curate.report.counts import Histogram, histogram

NEAR = 4
"""How far below the chosen threshold its curve begins, in distances of the threshold from the highest cosine."""


@dataclass(frozen=True)
class Calibration:
    """Precision and recall by threshold, as SVG paths in a box of 100 x 100.

    Attributes:
        chosen: the threshold, and its place from the left, in percent.
        edits: recall of each, in percent, the best first.
    """

    lines: list[tuple[str, int, str]]
    chosen: tuple[str, float] | None
    ticks: tuple[str, str]
    floor: str
    edits: list[tuple[str, float]]


def calibration(told: Mapping[str, Any]) -> Calibration | None:
    """The curve of a step's `threshold: {precision}`; None where it was not calibrated."""
    curve = told.get("calibration") or {}
    x = np.array(curve.get("threshold") or [], float)
    if len(x) < 2 or x.min() == x.max():
        return None
    lines = {name: np.array(curve[name], float) for name in ("precision", "recall") if len(curve.get(name) or ()) == len(x)}
    if not lines:
        return None
    chosen = curve.get("chosen")
    low, high = float(x.min()), float(x.max())
    if isinstance(chosen, int | float) and low < chosen < high:
        low = max(low, high - NEAR * (high - chosen))
    order = np.argsort(x, kind="stable")
    order = order[x[order] >= low]
    at = (x[order] - low) / (high - low) * 100
    floor = min(0.9, np.floor(min(float(np.nanmin(y[order])) for y in lines.values()) * 10) / 10)
    paths = [(name, hue, _line(at, (y[order] - floor) / (1 - floor))) for hue, (name, y) in enumerate(lines.items())]
    edits = sorted((curve.get("edits") or {}).items(), key=lambda edit: (-edit[1], edit[0]))
    place = (f"{chosen:.3f}", (chosen - low) / (high - low) * 100) if isinstance(chosen, int | float) else None
    if place and not 0 <= place[1] <= 100:
        place = (place[0], min(100.0, max(0.0, place[1])))
    return Calibration(paths, place, (f"{low:.2f}", f"{high:.2f}"), f"{floor:.0%}", [(name.replace("_", " "), 100 * float(value)) for name, value in edits])


def diameters(told: Mapping[str, Any]) -> Histogram | None:
    """How far apart the two least alike images of a component are, over the components of a step; None where it does not say."""
    found = np.array(told.get("diameters") or [], float)
    if not len(found):
        return None
    return histogram("Diameters of components", found, found, "1 minus the cosine of a component's two least alike images: wide ones are chains")


def _line(x: Sequence[float] | np.ndarray[Any, Any], y: Sequence[float] | np.ndarray[Any, Any]) -> str:
    """A line through points in a box of 100 x 100; what is not known is left out."""
    points = [f"{a:.4g} {100 - 100 * b:.4g}" for a, b in zip(x, y, strict=True) if np.isfinite(b)]
    return "M" + "L".join(points) if points else ""
