"""Plane shapes as distance functions, and the colours and patterns that scenes fill them with."""

import colorsys
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "crescent", "hexagon")
Array = NDArray[np.float64]


def distance(name: str, x: Array, y: Array) -> Array:
    """Signed distance of points to the edge of a shape that fills about the unit circle: negative inside."""
    centre = np.hypot(x, y)
    match name:
        case "circle":
            return centre - 0.85
        case "ring":
            return np.abs(centre - 0.68) - 0.24
        case "crescent":
            return np.maximum(centre - 0.95, 0.72 - np.hypot(x - 0.45, y))
        case _:
            return _polygon(_CORNERS[name], x, y)


def _regular(count: int, *radii: float) -> list[tuple[float, float]]:
    angles = 2 * np.pi * np.arange(count * len(radii)) / (count * len(radii))
    return [(radii[i % len(radii)] * np.cos(a), radii[i % len(radii)] * np.sin(a)) for i, a in enumerate(angles)]


_ARM, _REACH = 0.3, 0.92
_CORNERS = {
    "square": _regular(4, 1.05),
    "triangle": _regular(3, 1.1),
    "star": _regular(5, 1.1, 0.45),
    "hexagon": _regular(6, 0.95),
    "cross": [
        (sx * a, sy * b)
        for sx, sy, corner in ((1, 1, 0), (-1, 1, 1), (-1, -1, 0), (1, -1, 1))
        for a, b in (((_REACH, _ARM), (_ARM, _ARM), (_ARM, _REACH)) if corner == 0 else ((_ARM, _REACH), (_ARM, _ARM), (_REACH, _ARM)))
    ],
}


def _polygon(corners: list[tuple[float, float]], x: Array, y: Array) -> Array:
    """Distance to the nearest edge; the sign is that of the even-odd rule."""
    nearest, inside = np.full_like(x, np.inf), np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in pairwise([*corners, corners[0]]):
        ex, ey = bx - ax, by - ay
        along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clip(0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * ex, y - ay - along * ey))
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (y - ay) / ey * ex + ax)
    return np.where(inside, -nearest, nearest)


def colour(hue: float, saturation: float, value: float) -> Array:
    """RGB in [0, 1]; a hue beyond 1 goes round the circle again."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def pattern(choice: float, x: Array, y: Array) -> NDArray[np.bool_]:
    """Where a shape has its second colour; `choice` in [0, 1) picks plain (half of them), stripes, dots or checks."""
    if choice < 0.5:
        return np.zeros(x.shape, bool)
    stripes: NDArray[np.bool_] = (x + y) % 0.5 < 0.22
    dots: NDArray[np.bool_] = np.hypot(x % 0.45 - 0.225, y % 0.45 - 0.225) < 0.13
    checks: NDArray[np.bool_] = (np.floor(x / 0.35) + np.floor(y / 0.35)) % 2 == 0
    return stripes if choice < 0.7 else dots if choice < 0.85 else checks
