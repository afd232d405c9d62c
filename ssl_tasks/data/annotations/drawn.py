"""What the source `scenes` knows of the pictures that it drew: it lies in files beside them; see `ssl_tasks/data/scenes.py`.

A shape is all at one distance, unlike any other's: so the mask of one shape is found again from classes and depths.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.data import shapes
from ssl_tasks.data.annotations.files import numbers
from ssl_tasks.data.annotations.interfaces import Objects
from ssl_tasks.data.annotations.pictures import Pictures
from ssl_tasks.data.scenes import CLASSES


class _Drawn:
    """The folder of the drawn files.

    Raises:
        UserError: where the images are not drawn ones.
    """

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        if not len(pictures) or not self.has(0):
            where = f" ({pictures.place(0)} is none)" if len(pictures) else ""
            raise UserError(f"annotations `drawn` are known of images of the source `scenes` alone{where}: name a folder or file of annotations")

    def has(self, row: int) -> bool:
        return (self._file("masks", row)).exists()

    def _file(self, kind: str, row: int) -> Path:
        path = self.pictures.workspace / self.pictures.uri(row)
        return path.parents[min(3, len(path.parents) - 1)] / kind / path.name

    def _numbers(self, kind: str, row: int) -> NDArray[np.int64]:
        return numbers(self._file(kind, row), self.pictures, row)


class DrawnMasks(_Drawn):
    """Ground and shapes."""

    classes = list(CLASSES)

    def of(self, row: int) -> NDArray[np.int64]:
        return self._numbers("masks", row)


class DrawnDepths(_Drawn):
    """Depths to a millimetre."""

    def of(self, row: int) -> NDArray[np.float32]:
        return (self._numbers("depth", row) / 1000).astype(np.float32)


class DrawnBoxes(_Drawn):
    """Shapes, from far to near."""

    classes = list(shapes.SHAPES)
    masked = True

    def of(self, row: int) -> Objects:
        known, name = self._known, Path(self.pictures.uri(row)).name
        if name not in known:
            raise UserError(f"{self._file('boxes.json', row).parent} has nothing for image {self.pictures.place(row)}: draw the scenes anew")
        classes, depth = self._numbers("masks", row), self._numbers("depth", row)
        boxes = np.array([[box[side] for side in ("left", "top", "right", "bottom")] for box in known[name]], np.float32).reshape(-1, 4)
        labels = np.array([self.classes.index(box["name"]) for box in known[name]], np.int64)
        masks = [_shape(box.astype(int), classes == 1 + label, depth) for box, label in zip(boxes, labels, strict=True)]
        return Objects(boxes, labels, np.zeros(len(labels), bool), np.array(masks, bool).reshape(-1, *depth.shape))

    @cached_property
    def _known(self) -> dict[str, list[dict[str, Any]]]:
        path = self._file("boxes.json", 0).parent
        try:
            found: dict[str, list[dict[str, Any]]] = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path} ({error}): remove its folder, and list the images again with `--force` on the ingest") from error
        return found


def _shape(box: NDArray[np.int64], own: NDArray[np.bool_], depth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(H, W), of the pixels `own` of a shape's class those at a distance whose extent is the box; (H, W) each."""
    left, top, right, bottom = box
    inside = np.zeros_like(own)
    inside[top:bottom, left:right] = own[top:bottom, left:right]
    for distance in np.unique(depth[inside]):
        shape: NDArray[np.bool_] = own & (depth == distance)
        rows, columns = np.nonzero(shape)
        if (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom):
            return shape
    return inside
