"""COCO annotation files: boxes, and masks as polygons or run lengths. https://cocodataset.org/#format-data

An image that the file lists without any object is annotated: it has none. Boxes without area are left out.
"""

import json
import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.annotations import COCO
from schemas.errors import UserError
from ssl_tasks.data.annotations.files import check_size, reason, some
from ssl_tasks.data.annotations.interfaces import Objects
from ssl_tasks.data.annotations.pictures import Names, Pictures

_NEEDED = {"images": ("id", "file_name", "width", "height"), "annotations": ("image_id", "category_id"), "categories": ("id", "name")}


class _File:
    """What a COCO file says, by image.

    Raises:
        UserError: where it does not parse, lacks something, contradicts itself or names images that are not listed.
    """

    def __init__(self, config: COCO, pictures: Pictures) -> None:
        self.path, self.pictures = pictures.workspace / config.file, pictures
        told = _parsed(self.path)
        categories = sorted(told["categories"], key=lambda category: category["id"])
        self.names = [str(category["name"]) for category in categories]
        self.images = {str(image["file_name"]): image for image in told["images"]}
        self.found = Names(pictures, self.images, str(self.path), endings=True)
        if missing := self.found.missing():
            raise UserError(f"{self.path} names images that are not in the data set ({some(missing)}): mend the file, or put them there")
        number = {category["id"]: i for i, category in enumerate(categories)}
        self.objects: dict[Any, list[tuple[int, int, dict[str, Any]]]] = {image["id"]: [] for image in told["images"]}
        for place, annotation in enumerate(told["annotations"]):
            if annotation["image_id"] not in self.objects:
                raise UserError(f"{self.path}: annotations[{place}] is of image {annotation['image_id']}, which `images` does not list")
            if annotation["category_id"] not in number:
                raise UserError(f"{self.path}: annotations[{place}] is of category {annotation['category_id']}, which `categories` does not list")
            self.objects[annotation["image_id"]].append((place, number[annotation["category_id"]], annotation))

    def has(self, row: int) -> bool:
        return self.found.get(row) is not None

    def on(self, row: int) -> tuple[tuple[int, int], list[tuple[int, int, dict[str, Any]]]]:
        """Height and width of an image, and of each object its place in the file, class and annotation."""
        image = self.images[self.found.of(row)]
        size = (int(image["height"]), int(image["width"]))
        check_size(size, f"image {image['file_name']} in {self.path}", self.pictures, row)
        return size, self.objects[image["id"]]

    def mask(self, size: tuple[int, int], place: int, annotation: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Where one object is, (H, W)."""
        if not (outline := annotation.get("segmentation")):
            raise UserError(f"{self.path}: annotations[{place}] has no `segmentation`, which masks are made of")
        coco = _pycocotools()
        try:
            compressed = isinstance(outline, dict) and not isinstance(outline["counts"], list)
            runs = outline if compressed else coco.frPyObjects(outline, *size)
            runs = coco.merge(runs) if isinstance(runs, list) else runs
            decoded: NDArray[np.bool_] = coco.decode(runs).astype(bool)
        except Exception as error:
            raise UserError(f"{self.path}: annotations[{place}].segmentation is neither polygons nor run lengths ({reason(error)})") from error
        if decoded.shape != size:
            is_, own = (f"{width} x {height}" for height, width in (decoded.shape, size))
            raise UserError(f"{self.path}: annotations[{place}].segmentation is {is_} pixels, its image {own}")
        return decoded


class COCOBoxes(_File):
    """Objects with their boxes; with masks where all have one."""

    @property
    def classes(self) -> list[str]:
        return self.names

    @cached_property
    def masked(self) -> bool:
        return all(annotation.get("segmentation") for objects in self.objects.values() for _, _, annotation in objects)

    def of(self, row: int) -> Objects:
        size, objects = self.on(row)
        boxes = np.array([self._box(place, annotation) for place, _, annotation in objects], np.float32).reshape(-1, 4)
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        objects = [each for each, keep in zip(objects, kept, strict=True) if keep]
        labels = np.array([label for _, label, _ in objects], np.int64)
        crowd = np.array([bool(annotation.get("iscrowd", 0)) for _, _, annotation in objects], bool)
        masks = np.array([self.mask(size, place, each) for place, _, each in objects], bool).reshape(-1, *size) if self.masked else None
        return Objects(boxes[kept], labels, crowd, masks)

    def _box(self, place: int, annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) and math.isfinite(v) for v in box):
            raise UserError(f"{self.path}: annotations[{place}].bbox is no list of left, top, width and height in pixels")
        return box[0], box[1], box[0] + box[2], box[1] + box[3]


class COCOMasks(_File):
    """The class of each pixel: background, or that of the smallest object on it."""

    @property
    def classes(self) -> list[str]:
        return ["background", *self.names]

    def of(self, row: int) -> NDArray[np.int64]:
        size, objects = self.on(row)
        outlined = [(self.mask(size, place, annotation), label) for place, label, annotation in objects]
        found = np.zeros(size, np.int64)
        for mask, label in sorted(outlined, key=lambda each: -int(each[0].sum())):
            found[mask] = 1 + label
        return found


def _parsed(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The file with all that is needed of it; the last one is held, as every model of an evaluation asks for it."""
    try:
        return _held(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); the path is relative to the workspace") from error


@lru_cache(maxsize=1)
def _held(path: Path, _modified: int) -> dict[str, list[dict[str, Any]]]:
    try:
        told = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({reason(error)})") from error
    for part, keys in _NEEDED.items():
        entries = told.get(part) if isinstance(told, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"{path} is no COCO file: it has no list `{part}`")
        for place, entry in enumerate(entries):
            if lacking := [key for key in keys if not isinstance(entry, dict) or key not in entry]:
                raise UserError(f"{path}: {part}[{place}] has no '{lacking[0]}'")
    found: dict[str, list[dict[str, Any]]] = told
    return found


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError("COCO masks are read by pycocotools: install sslflow[evaluate]") from error
    return mask
