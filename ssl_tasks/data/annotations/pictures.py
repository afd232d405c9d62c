"""The images that annotations are of, at their own size, and how an annotation finds its image."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import UserError
from ssl_tasks.data import containers, store
from ssl_tasks.data.images import FORMATS, ORIENTATION, Bands

_TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True)
class Pictures:
    """Images of a manifest.

    Attributes:
        table: whose rows are asked for by their number.
        workspace: what paths are relative to.
        listed: uris of every image of the manifest, kept or not; an annotation may be of any of them.
    """

    table: pa.Table
    workspace: Path
    listed: Sequence[str]
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.table)

    def uri(self, row: int) -> str:
        """Where an image lies, as the manifest says it."""
        return str(self.table["uri"][row].as_py())

    def place(self, row: int) -> str:
        """Where an image lies, for a person."""
        return containers.place(self.uri(row), self.workspace)

    def image(self, row: int) -> Image.Image | Bands:
        """The picture, upright. Raises UserError where it cannot be read, or has changed since it was listed."""
        return store.read_listed(self.uri(row), str(self.table["sha256"][row].as_py()), self.workspace)

    def pixels(self, row: int, channels: int) -> NDArray[np.uint8]:
        """The picture as an encoder of so many channels takes it, upright, (C, H, W)."""
        return store.of_channels(self.image(row), channels, self.uri(row), self.workspace)

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of the picture, upright; its pixels are not decoded."""
        if row not in self._sizes:
            self._sizes[row] = self._size(row)
        return self._sizes[row]

    def _size(self, row: int) -> tuple[int, int]:
        data = containers.read_bytes(self.uri(row), self.workspace)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                return (width, height) if image.getexif().get(ORIENTATION, 1) in _TURNED else (height, width)
        except Exception:  # a NumPy file, or one whose reason `image` tells
            width, height = self.image(row).size
            return height, width


class Names:
    """Finds what is known of an image under the end of its path.

    `cat/1` is of `images/train/cat/1.jpg` and of the member `cat/1.jpg` of a shard. Where several ends are known the longest counts.

    Args:
        known: what there is, by names such as `cat/1` or, where `endings` count, `cat/1.jpg`.
        where: that lists them, for a person.
        endings: whether names end as their image's does.

    Raises:
        UserError: where one name is of two images of the table.
    """

    def __init__(self, pictures: Pictures, known: Iterable[str], where: str, endings: bool = False) -> None:
        self.pictures, self.where, self.endings = pictures, where, endings
        self._known = {tidy(name): name for name in known}
        self._rows: dict[int, str] = {}
        first: dict[str, int] = {}
        for row, uri in enumerate(pictures.table["uri"].to_pylist()):
            if (name := self._find(uri)) is None:
                continue
            if (other := first.setdefault(name, row)) != row:
                both = f"{pictures.place(other)} and {pictures.place(row)}"
                raise UserError(f"'{name}' of {where} is of two images, {both}: name it by more of the path, as the images lie below their source")
            self._rows[row] = name

    def get(self, row: int) -> str | None:
        """The name under which an image is known; None where nothing is known of it."""
        return self._rows.get(row)

    def of(self, row: int) -> str:
        """The name under which an image is known. Raises UserError where nothing is known of it."""
        if row not in self._rows:
            raise UserError(f"{self.where} has nothing for image {self.pictures.place(row)}: annotate it, or keep it out of the data set")
        return self._rows[row]

    def missing(self) -> list[str]:
        """Names of which no image is listed."""
        found = {self._find(uri) for uri in self.pictures.listed}
        return [name for name in self._known.values() if name not in found]

    def _find(self, uri: str) -> str | None:
        parts = _parts(uri, self.endings)
        return next((self._known[end] for i in range(len(parts)) if (end := "/".join(parts[i:])) in self._known), None)


def annotated(known: Mapping[int, object] | Names, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Those of some rows of which something is known, in their order."""
    return np.array([row for row in rows.tolist() if known.get(row) is not None], dtype=np.int64)


def tidy(name: str) -> str:
    """A path as names are compared: with slashes, and nothing before its first folder."""
    return str(PurePosixPath(name.replace("\\", "/"))).lstrip("/")


def _parts(uri: str, endings: bool) -> tuple[str, ...]:
    """Folders and name of an image, the name with its ending or without; of a cell in a table nothing."""
    kind, inner, outer = containers.parted(uri)
    if kind and kind != "tar":
        return ()
    path = PurePosixPath(unquote(inner) if kind else outer)
    return tuple(part for part in (path if endings else path.with_suffix("")).parts if part != "/")
