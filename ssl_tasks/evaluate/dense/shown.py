"""A picture of what a model predicts of each pixel: some test images, truth and prediction."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ssl_tasks.data.annotations.interfaces import VOID
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.looks.shown import called
from ssl_tasks.evaluate.report.pictures import PICTURE, Picture, coloured, grid
from ssl_tasks.evaluate.subject import Subject

Colours = NDArray[np.uint8]
IMAGES = 3
"""In a figure."""
_HUES = 20
"""Classes beyond it take the colours of the first again."""


class Shown(NamedTuple):
    """An image (C, H, W), and truth and prediction as pictures (3, H, W)."""

    image: NDArray[np.uint8]
    truth: Colours
    said: Colours


def plate(kind: str, title: str, subject: Subject, shown: Sequence[Shown], caption: str) -> Plate:
    """The figure; its caption goes on with `caption`."""
    rows = [[small(_seen(each.image), Image.Resampling.BILINEAR), small(each.truth), small(each.said)] for each in shown]
    told = f"{len(shown)} test images, what is true of their pixels, and what a linear head on the patch features of {subject.name} says. {caption}"
    heads = {0: "image", 1: "truth", 2: "predicted"}
    return Plate(called(kind, subject), "looks", f"{title}: {subject.name}", told, lambda theme: grid(rows, heads, theme))


def class_colours(classes: NDArray[np.int64]) -> Colours:
    """A colour a class, grey where a pixel is void: (3, H, W)."""
    wheel = np.array(matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]  # of a map that lists its colours
    spread = np.concatenate([wheel[::2], wheel[1::2]])
    found = np.where((classes == VOID)[..., None], 0.5, spread[classes % _HUES])
    return (found * 255).round().astype(np.uint8).transpose(2, 0, 1)


def depth_colours(metres: NDArray[np.floating], farthest: float) -> Colours:
    """Near bright, far dark, black where it is unknown: (3, H, W)."""
    return coloured(np.where(metres > 0, 1 - np.clip(metres / farthest, 0, 1) * 0.9, 0))


def small(picture: Colours, resampling: Image.Resampling = Image.Resampling.NEAREST) -> Picture:
    """The middle square, no larger than it is shown."""
    image = Image.fromarray(picture.transpose(1, 2, 0))
    short = min(image.size)
    left, top = ((side - short) // 2 for side in image.size)
    side = min(short, 2 * PICTURE)
    square = image.resize((side, side), resampling, box=(left, top, left + short, top + short))
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def _seen(image: NDArray[np.uint8]) -> Colours:
    """Of other channels than three the first."""
    return image[:3] if len(image) >= 3 else torch.from_numpy(image[:1]).expand(3, -1, -1).numpy()
