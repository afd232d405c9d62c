"""Shapes that move on a ground that does not: short videos and pairs of pictures, in which the way of every point is known.

What is drawn is a function of world and index alone: another size is the same, sharper.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_tasks.data import scenes, shapes

VERSION = 1
"""Raised when the same world and index would give another picture."""

Array = NDArray[np.float64]

_NEAREST, _FARTHEST = 1.4, 3.0
"""Distances of the shapes from the viewer, in metres."""


class DrawnVideo(NamedTuple):
    """A video of F frames."""

    frames: NDArray[np.uint8]
    """(F, S, S, 3)."""
    masks: NDArray[np.uint8]
    """(F, S, S): 0 for the ground, n for the shape n."""


class DrawnPair(NamedTuple):
    """The same shapes twice, on two grounds; the second time all of them larger or smaller, and elsewhere."""

    source: NDArray[np.uint8]
    """(S, S, 3)."""
    target: NDArray[np.uint8]
    """(S, S, 3)."""
    points: Array
    """(n, 4): x and y in the source, x and y of the same point of the same shape in the target, in pixels; what nothing hides in either."""


class _Bodies(NamedTuple):
    """Shapes from far to near: what each is, where its centre lies, (n, 2), and how far it reaches, (n,), in image sides."""

    names: list[str]
    places: Array
    radii: Array


def video(world: int, index: int, size: int, frames: int) -> DrawnVideo:
    """Two or three shapes that go round the middle, each its own way and at its own pace."""
    random = np.random.default_rng([world, index])
    bodies = _bodies(random)
    turns = random.choice([-1, 1], len(bodies.names)) * (0.4 + 0.8 * random.random(len(bodies.names)))
    drawn = [_draw([world, index], 0, _turned(bodies, turns * t / max(frames - 1, 1)), size) for t in range(frames)]
    return DrawnVideo(np.stack([image for image, _ in drawn]), np.stack([owner for _, owner in drawn]))


def pair(world: int, index: int, size: int, each: int = 4) -> DrawnPair:
    """Two or three shapes with at most `each` points on each of them."""
    random = np.random.default_rng([world, index, 1])
    bodies = _bodies(random)
    scale, shift = 0.8 + 0.35 * random.random(), 0.12 * (random.random(2) - 0.5)
    moved = bodies._replace(places=0.5 + scale * (bodies.places - 0.5) + shift, radii=scale * bodies.radii)
    (source, first), (target, second) = (_draw([world, index, 1], ground, b, size) for ground, b in enumerate((bodies, moved)))
    points = []
    for number in range(1, 1 + len(bodies.names)):
        rows, columns = np.nonzero(first == number)
        here = (np.stack([columns, rows], 1) + 0.5) / size
        there = 0.5 + scale * (here - 0.5) + shift
        inside = np.flatnonzero(((there >= 0) & (there < 1)).all(1))
        x, y = (there[inside] * size).astype(int).T
        seen = inside[second[y, x] == number]
        chosen = random.permutation(seen)[:each]
        points.append(np.concatenate([here[chosen], there[chosen]], 1) * size)
    return DrawnPair(source, target, np.concatenate(points))


def _bodies(random: np.random.Generator) -> _Bodies:
    """Two or three shapes around the middle, none on another."""
    count = 2 + int(2 * random.random())
    angles = 2 * np.pi * (random.random() + np.arange(count) / count)
    names = [shapes.SHAPES[int(len(shapes.SHAPES) * random.random())] for _ in range(count)]
    return _Bodies(names, 0.5 + 0.26 * np.stack([np.cos(angles), np.sin(angles)], 1), 0.13 + 0.05 * random.random(count))


def _turned(bodies: _Bodies, angles: Array) -> _Bodies:
    x, y = (bodies.places - 0.5).T
    places = np.stack([x * np.cos(angles) - y * np.sin(angles), x * np.sin(angles) + y * np.cos(angles)], 1)
    return bodies._replace(places=0.5 + places)


def _draw(world: list[int], ground: int, bodies: _Bodies, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The picture, (S, S, 3), and of each pixel which shape is seen there, (S, S), from 1; 0 for the ground."""
    centres = (np.arange(size) + 0.5) / size
    y, x = np.meshgrid(centres, centres, indexing="ij")
    canvas, owner = scenes.ground(np.random.default_rng([*world, 0, ground]), x, y), np.zeros((size, size), np.uint8)
    distances = np.linspace(_FARTHEST, _NEAREST, len(bodies.names))
    for number, (name, place, radius, distance) in enumerate(zip(*bodies, distances, strict=True), start=1):
        own = np.random.default_rng([*world, number])
        canvas, coverage = scenes.paint(own, canvas, x, y, name, place, float(radius), float(distance))
        owner[coverage > 0.5] = number
    return (canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8), owner
