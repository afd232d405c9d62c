"""Pictures of a manifest's rows, small enough for a page; one that cannot be read any more is a tile with its name."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from PIL import Image

from schemas.errors import UserError
from ssl_tasks.data.images import Unreadable, open_image
from ssl_tasks.data.store import listed_bytes, parallel

SIDE = 112
"""Longer side of a thumbnail, in pixels."""
CRISP = 48
"""Images up to this size are kept as they are, and enlarged without smoothing."""
MOST = 600
"""Pictures on one page."""
LARGEST = 64_000_000
"""Pixels above which an image is not decoded only to be looked at."""


@dataclass
class Tile:
    """One image on the page.

    Attributes:
        note: what is said of it beside its id, such as a similarity.
        tone: `kept`, `gone` or empty.
        fault: why there is no picture of it to be looked for.
        picture: at most `SIDE` wide and high; None until it is read, and where it cannot be.
    """

    id: int
    uri: str
    sha256: str
    note: str = ""
    tone: str = ""
    fault: str = ""
    picture: Image.Image | None = None

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.uri.rstrip("/").rpartition("/")[2] or self.uri

    @property
    def crisp(self) -> bool:
        """Whether it is shown pixel by pixel."""
        return self.picture is not None and max(self.picture.size) <= CRISP

    @property
    def data(self) -> str:
        """The picture as a data URI: PNG where each pixel shows, else JPEG."""
        assert self.picture is not None
        buffer, format_ = io.BytesIO(), "PNG" if self.crisp else "JPEG"
        self.picture.save(buffer, format_, optimize=True, **({} if self.crisp else {"quality": 80}))
        return f"data:image/{format_.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


class Album:
    """Hands out tiles, and reads the pictures of all of them at once."""

    def __init__(self, workspace: Path) -> None:
        self.workspace, self.tiles = workspace, list[Tile]()

    def of(self, table: pa.Table, rows: Sequence[int], notes: Sequence[str] = (), tone: str = "", fault: str = "") -> list[Tile]:
        """A tile for each of some rows of a manifest."""
        listed = zip(*(table[name].take(pa.array(rows, pa.int64())).to_pylist() for name in ("id", "uri", "sha256")), notes or [""] * len(rows), strict=True)
        tiles = [Tile(id_, uri, sha256, note, tone, fault) for id_, uri, sha256, note in listed]
        self.tiles += tiles
        return tiles

    def develop(self) -> None:
        """Read the pictures, several at a time."""
        wanted = [tile for tile in self.tiles if not tile.fault][:MOST]
        for tile, picture in zip(wanted, parallel(self._read, wanted), strict=True):
            tile.picture = picture

    def _read(self, tile: Tile) -> Image.Image | None:
        try:
            image = open_image(listed_bytes(tile.uri, tile.sha256, self.workspace), LARGEST).convert("RGB")
        except (UserError, Unreadable, OSError):
            return None
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return image
