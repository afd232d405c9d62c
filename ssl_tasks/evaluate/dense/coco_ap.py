"""Average precision of boxes and masks as COCO has it, by COCO's own code: pycocotools' COCOeval. https://cocodataset.org/#detection-eval"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.data.annotations.interfaces import Objects

What = Literal["bbox", "segm"]


class Found(NamedTuple):
    """What a detector found in one image of H x W pixels."""

    boxes: NDArray[np.float32]
    """(n, 4): left, top, right, bottom in pixels."""
    labels: NDArray[np.int64]
    """(n,), index of the classes."""
    scores: NDArray[np.float32]
    """(n,), the surer the higher."""
    masks: NDArray[np.bool_] | None = None
    """(n, H, W)."""


class COCOScores:
    """Gathers what is true and what was found, an image at a time; masks are kept run-length encoded.

    Args:
        classes: how many there are.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._images: list[dict[str, Any]] = []
        self._true: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(self, truth: Objects, found: Found, size: tuple[int, int]) -> None:
        """Add an image of a height and width, be it without any object."""
        image = len(self._images) + 1
        self._images.append({"id": image, "height": size[0], "width": size[1]})
        for entry, crowd in zip(_entries(image, truth.boxes, truth.labels, truth.masks), truth.crowd, strict=True):
            self._true.append({**entry, "id": len(self._true) + 1, "iscrowd": int(crowd)})
        for entry, score in zip(_entries(image, found.boxes, found.labels, found.masks), found.scores, strict=True):
            self._found.append({**entry, "score": float(score)})

    def average_precision(self, what: What) -> tuple[float, float]:
        """AP, the mean over IoU thresholds 0.5, 0.55, ..., 0.95 and over classes, and AP at 0.5; at most 100 found objects an image.

        Raises:
            UserError: where there is no object to find.
        """
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        if all(entry["iscrowd"] for entry in self._true):
            raise UserError(f"average precision: the {len(self._images)} annotated test images show no object; annotate some")
        if not self._found:
            return 0.0, 0.0
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {"images": self._images, "annotations": self._true, "categories": [{"id": 1 + c} for c in range(self._classes)]}
            truth.createIndex()
            judged = COCOeval(truth, truth.loadRes([dict(entry) for entry in self._found]), what)
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
        return float(judged.stats[0]), float(judged.stats[1])


def _entries(image: int, boxes: NDArray[np.float32], labels: NDArray[np.int64], masks: NDArray[np.bool_] | None) -> Sequence[dict[str, Any]]:
    """COCO's records of objects in an image."""
    entries = []
    for number, ((left, top, right, bottom), label) in enumerate(zip(boxes.astype(np.float64).tolist(), labels.tolist(), strict=True)):
        box = [left, top, right - left, bottom - top]
        entry: dict[str, Any] = {"image_id": image, "category_id": 1 + label, "bbox": box, "area": box[2] * box[3]}
        if masks is not None:
            from pycocotools import mask

            entry |= {"segmentation": mask.encode(np.asfortranarray(masks[number], np.uint8)), "area": float(masks[number].sum())}
        entries.append(entry)
    return entries
