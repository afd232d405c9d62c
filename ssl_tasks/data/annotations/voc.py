"""Pascal VOC annotation files: boxes, an XML file an image. http://host.robots.ox.ac.uk/pascal/VOC

Pixels are counted from 1 and a box includes its last: `xmin` 1 and `xmax` W are 0 and W here. What is `difficult` counts for nothing.
"""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from schemas.annotations import VOC
from schemas.errors import UserError
from ssl_tasks.data.annotations.files import below, check_size, some
from ssl_tasks.data.annotations.interfaces import Objects
from ssl_tasks.data.annotations.pictures import Names, Pictures

_SIDES = ("xmin", "ymin", "xmax", "ymax")


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class VOCBoxes:
    """Objects with their boxes; the classes are those that any file names, by alphabet."""

    masked = False

    def __init__(self, config: VOC, pictures: Pictures) -> None:
        self.folder, self.pictures = pictures.workspace / config.path, pictures
        files = below(self.folder, (".xml",))
        self.names = Names(pictures, files, str(self.folder))
        if missing := self.names.missing():
            raise UserError(f"{self.folder} has files of images that are not in the data set ({some(missing)}): remove them, or put those there")
        self._files = {name: _parsed(path) for name, path in files.items()}

    @cached_property
    def classes(self) -> list[str]:
        return sorted({each.name for _, objects in self._files.values() for each in objects})

    def has(self, row: int) -> bool:
        return self.names.get(row) is not None

    def of(self, row: int) -> Objects:
        name = self.names.of(row)
        size, objects = self._files[name]
        if size is not None:
            check_size(size, f"the image of {self.folder / name}.xml", self.pictures, row)
        boxes = np.array([each.box for each in objects], np.float32).reshape(-1, 4)
        labels = np.array([self.classes.index(each.name) for each in objects], np.int64)
        return Objects(boxes, labels, np.array([each.difficult for each in objects], bool), None)


def _parsed(path: Path) -> tuple[tuple[int, int] | None, list[_Object]]:
    """Height and width where a file states them, and its objects."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no XML: {error}") from error
    try:
        height, width = (int(root.findtext(f"size/{side}") or 0) for side in ("height", "width"))
        return (height, width) if height and width else None, [_object(each) for each in root.iter("object")]
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _object(element: ElementTree.Element) -> _Object:
    name, sides = element.findtext("name"), [element.findtext(f"bndbox/{side}") for side in _SIDES]
    if not name or None in sides:
        raise ValueError(f"an object has no {'name' if not name else f'bndbox/{_SIDES[sides.index(None)]}'}")
    left, top, right, bottom = (float(side or "") for side in sides)
    if not (left <= right and top <= bottom):
        raise ValueError(f"the box of '{name}' ends before it begins")
    return _Object(name.strip(), (left - 1, top - 1, right, bottom), (element.findtext("difficult") or "0").strip() == "1")
