"""Images at their own size, normalised, with what is to be predicted of each pixel; and random crops of them.

Shapes: C channels, H and W pixels of an image, S of a side of a crop, B crops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ssl_tasks.data.annotations.pictures import Pictures
from ssl_tasks.data.store import parallel
from ssl_tasks.evaluate.neighbours import Ints

HELD = 512_000_000
"""Bytes of decoded images and targets that are held; what is beyond is read again."""

Target = NDArray[Any]
Read = Callable[[int], tuple[NDArray[np.uint8], Target]]


@dataclass
class Examples:
    """Images and targets of rows, decoded when they are first asked for.

    Attributes:
        target: of a row, (H, W).
        unknown: the target of pixels beyond an image's edge.
    """

    pictures: Pictures
    target: Callable[[int], Target]
    channels: int
    unknown: float
    _held: dict[int, tuple[NDArray[np.uint8], Target]] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def of(self, row: int) -> tuple[NDArray[np.uint8], Target]:
        """An image (C, H, W) and its target (H, W)."""
        if row in self._held:
            return self._held[row]
        found = self.pictures.pixels(row, self.channels), self.target(row)
        if self._bytes + (size := sum(part.nbytes for part in found)) <= HELD:
            self._held[row] = found
            self._bytes += size
        return found

    def crops(self, rows: Ints, steps: int, batch_size: int, size: int, side: "Side", seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of squares cut at random places, flipped half of the time: uint8 (B, C, S, S), and targets (B, S, S).

        Args:
            steps: batches.
            size: S.
            side: of a square in the image, in its pixels.
        """
        random = np.random.default_rng(seed)
        order = random.permutation(rows)
        while len(order) < steps * batch_size:
            order = np.concatenate([order, random.permutation(rows)])
        for step in range(steps):
            chosen = order[step * batch_size : (step + 1) * batch_size].tolist()
            draws = [random.random(4) for _ in chosen]
            cut = list(parallel(lambda each: self._crop(*each, size, side), list(zip(chosen, draws, strict=True))))
            yield torch.stack([image for image, _ in cut]), torch.stack([target for _, target in cut])

    def _crop(self, row: int, draw: NDArray[np.float64], size: int, side: "Side") -> tuple[Tensor, Tensor]:
        image, target = self.of(row)
        height, width = target.shape
        length = side(min(height, width), float(draw[0]))
        top, left = (round(min(0, room) + share * abs(room)) for room, share in ((height - length, draw[1]), (width - length, draw[2])))
        pixels, truth = cut(image, target, top, left, length, size, self.unknown)
        return (pixels.flip(-1), truth.flip(-1)) if draw[3] < 0.5 else (pixels, truth)


Side = Callable[[int, float], int]
"""Side of a square to cut, of the image's shorter side and a random number in [0, 1)."""


def cut(image: NDArray[np.uint8], target: Target, top: int, left: int, length: int, size: int, unknown: float) -> tuple[Tensor, Tensor]:
    """A square of an image (C, H, W), resized: (C, S, S), and of its target, (S, S). Beyond the edges it is the image's mean colour.

    Args:
        top, left: of the square, in pixels of the image; may lie outside.
        length: its side, in pixels of the image.
        unknown: target of what lies outside.
    """
    inside = image[:, max(top, 0) : top + length, max(left, 0) : left + length]
    square = np.empty((len(image), length, length), np.float32)
    square[:] = inside.mean(axis=(1, 2))[:, None, None]
    row, column = max(-top, 0), max(-left, 0)
    square[:, row : row + inside.shape[1], column : column + inside.shape[2]] = inside
    pixels = interpolate(torch.from_numpy(square)[None], size=(size, size), mode="bilinear", antialias=True, align_corners=False)[0]
    centres = ((np.arange(size) + 0.5) * length / size).astype(np.int64)
    rows, columns = top + centres, left + centres
    truth = target[np.ix_(rows.clip(0, target.shape[0] - 1), columns.clip(0, target.shape[1] - 1))].copy()
    truth[(rows < 0) | (rows >= target.shape[0])] = unknown
    truth[:, (columns < 0) | (columns >= target.shape[1])] = unknown
    return pixels.round().to(torch.uint8), torch.from_numpy(truth)
