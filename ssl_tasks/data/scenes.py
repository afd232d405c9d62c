"""Scenes drawn in code: coloured shapes on textured ground, with class, mask, boxes and depth of every pixel known.

A scene is a function of seed and index alone: another size is the same scene, sharper. Colour, texture, place and angle say
nothing of a shape's class.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.job import CACHE
from schemas.sources import Scenes
from ssl_tasks.data import drafts, shapes

CLASSES = ("ground", *shapes.SHAPES)
"""Names of the values in a mask."""
VERSION = 1
"""Raised when the same seed and index would give another scene."""

Array = NDArray[np.float64]


class Box(NamedTuple):
    """What can be seen of one shape: left and top included, right and bottom excluded, in pixels.

    Attributes:
        visible: share of the shape's pixels that nothing hides.
    """

    name: str
    left: int
    top: int
    right: int
    bottom: int
    visible: float


@dataclass(frozen=True)
class Scene:
    """One drawn picture and all that is known of it.

    Attributes:
        image: (S, S, 3).
        mask: (S, S), an index into `CLASSES`.
        depth: (S, S), distance from the viewer in metres, 1 to 10.
        boxes: of the shapes that can be seen, from far to near.
        label: class of the shape of which most can be seen.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    depth: NDArray[np.float32]
    boxes: list[Box]
    label: str


def draw(seed: int, index: int, size: int) -> Scene:
    """The scene `index` of the world `seed`, `size` pixels a side."""
    random = np.random.default_rng([seed, index])
    centres = (np.arange(size) + 0.5) / size
    y, x = np.meshgrid(centres, centres, indexing="ij")
    canvas = ground(random, x, y)
    depth = 1 / (0.1 + 0.15 * y)  # the ground runs from 4 m at the lower edge to 10 m at the upper
    mask, owner, drawn = np.zeros((size, size), np.uint8), np.full((size, size), -1), []
    distances = np.sort(1 + 2.8 * random.random(1 + int(5 * random.random())))[::-1]
    for number, distance in enumerate(distances):
        kind = int(len(shapes.SHAPES) * random.random())
        radius = (0.16 + 0.06 * random.random()) * (0.7 + 1.1 / distance)
        place = radius * 0.6 + random.random(2) * (1 - radius * 1.2)
        canvas, coverage = paint(random, canvas, x, y, shapes.SHAPES[kind], place, radius, distance)
        inside = coverage > 0.5
        mask[inside], depth[inside], owner[inside] = 1 + kind, distance, number
        drawn.append((shapes.SHAPES[kind], int(inside.sum())))
    boxes, areas = [], []
    for number, (name, area) in enumerate(drawn):
        rows, columns = np.nonzero(owner == number)
        if len(rows):
            edges = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            boxes.append(Box(name, *edges, round(len(rows) / area, 4)))
            areas.append(len(rows))
    image = (canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(image, mask, depth.astype(np.float32), boxes, boxes[int(np.argmax(areas))].name)


def ground(random: np.random.Generator, x: Array, y: Array) -> Array:
    """(S, S, 3): noise between two related hues, finer and paler with distance.

    Args:
        x, y: (S, S), of each pixel's centre, in image sides.
    """
    hue, octaves = random.random(), 5
    noise = np.zeros_like(x)
    for octave in range(octaves):
        cells = 3 * 2**octave
        noise += _noise(random, cells, x, y) / 2**octave
    noise = (noise / 2 - 0.5) * 1.6 + 0.5
    near, far = shapes.colour(hue, 0.45, 0.42), shapes.colour(hue + 0.12 * random.random(), 0.3, 0.72)
    haze = 0.35 * (1 - y[..., None]) ** 2
    canvas: Array = (near + (far - near) * noise[..., None].clip(0, 1)) * (1 - haze) + haze * np.array([0.86, 0.9, 0.94])
    return canvas


def _noise(random: np.random.Generator, cells: int, x: Array, y: Array) -> Array:
    """Random values on a grid of `cells` a side, smoothly interpolated."""
    grid = random.random((cells + 1, cells + 1))
    i, j = (np.minimum((v * cells).astype(int), cells - 1) for v in (y, x))
    v, u = (t * t * (3 - 2 * t) for t in (y * cells - i, x * cells - j))
    top, bottom = grid[i, j] * (1 - u) + grid[i, j + 1] * u, grid[i + 1, j] * (1 - u) + grid[i + 1, j + 1] * u
    value: Array = top * (1 - v) + bottom * v
    return value


def paint(random: np.random.Generator, canvas: Array, x: Array, y: Array, name: str, place: Array, radius: float, distance: float) -> tuple[Array, Array]:
    """The canvas with a shape and its shadow on it, and how much of each pixel the shape covers.

    Args:
        x, y: (S, S), of each pixel's centre, in image sides; so are place, (x, y), and radius.
        distance: from the viewer, in metres: what is far is darker.
    """
    angle, pixel = 2 * np.pi * random.random(), 1 / len(x)
    hue, pattern, second = random.random(), random.random(), random.random()

    def coverage(dx: float, dy: float, softness: float) -> Array:
        u, v = (x - place[0] - dx) / radius, (y - place[1] - dy) / radius
        turned = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        inside: Array = 0.5 - shapes.distance(name, *turned) * radius / softness
        return inside.clip(0, 1)

    shadow = coverage(0.03 * radius / 0.2, 0.05 * radius / 0.2, max(0.06, 2 * pixel))[..., None]
    canvas = canvas * (1 - 0.5 * shadow)
    alpha = coverage(0, 0, pixel)
    light = 1.08 - 0.28 * ((x - place[0]) * 0.6 + (y - place[1])) / radius - 0.04 * distance
    rim = 0.78 + 0.22 * coverage(0, 0, 0.09).clip(0.5, 1) * 2 - 0.22
    figured = shapes.pattern(pattern, (x - place[0]) / radius, (y - place[1]) / radius)[..., None]
    body = np.where(figured, shapes.colour(hue + 0.08 + 0.3 * second, 0.5, 0.98), shapes.colour(hue, 0.72, 0.92))
    body = body * (light * rim)[..., None]
    return canvas * (1 - alpha[..., None]) + body.clip(0, 1) * alpha[..., None], alpha


def place(source: Scenes, workspace: Path) -> Path:
    """Folder of the drawn files: `images/SPLIT/LABEL/NNNNN.png`, `masks/`, `depth/` (16 bit, millimetres) and `boxes.json`."""
    stamp = hashlib.sha256(f"{VERSION}:{source.model_dump_json()}".encode()).hexdigest()[:12]
    return workspace / CACHE.parent / "generated" / f"scenes-{stamp}"


def write(source: Scenes, root: Path, scratch: Path) -> None:
    """Draw the scenes of a source into `root`, unless they are there; the last ones are the test split."""
    if root.exists():
        return
    train = source.count - min(round(source.count * source.test), source.count - 1)
    boxes = {}
    with drafts.whole(root, scratch) as draft:
        for folder in (draft / "masks", draft / "depth"):
            folder.mkdir()
        for i in range(source.count):
            scene, name = draw(source.seed, i, source.size), f"{i:05d}.png"
            folder = draft / "images" / ("train" if i < train else "test") / scene.label
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(folder / name)
            Image.fromarray(scene.mask).save(draft / "masks" / name)
            Image.fromarray((scene.depth * 1000).astype(np.uint16)).save(draft / "depth" / name)
            boxes[name] = [box._asdict() for box in scene.boxes]
        (draft / "boxes.json").write_text(json.dumps(boxes))
