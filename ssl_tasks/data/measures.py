"""Measures: what one decoding of an image tells, made once for all that ask.

Contrast is the standard deviation of grey. Sharpness is the variance of the Laplacian of grey (Pech-Pacheco et al., Diatom
autofocusing in brightfield microscopy: a comparative study, 2000, https://doi.org/10.1109/ICPR.2000.903548), of the picture
shrunk, in its proportions, to the area of 256 x 256 px, and never enlarged: so it says whether a picture is sharp at about the
size at which a network sees it, and pictures of 500 and of 5,000 px compare. A smaller one is judged at its own size; since the
spectra of photographs look alike at every scale, a sharp one has about the same value there.

The hashes are taken from the same shrunken grey picture. pHash: the signs, about their median, of the 8 x 8 lowest frequencies
of the DCT-II of 32 x 32 pixels (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010,
https://www.phash.org/docs/pubs/thesis_zauner.pdf); dHash: of 9 x 8 pixels, whether each is brighter than its left neighbour
(Krawetz, Kind of like that, 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).

Differs from the usual libraries: pixels are shrunk with boxes, then triangles, not with Lanczos's windows; the DCT has cosines
rounded to whole numbers, so that all sums are exact and a hash depends on neither the processor nor the images that it is
computed with. Their hashes do not compare with these.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from ssl_tasks.data.images import Bands, Unreadable, open_image, pixel_digest
from ssl_tasks.data.known import Known
from ssl_tasks.data.store import listed_bytes

VERSION = 2
"""Raised when the same image would give other values."""
SCHEMA = pa.schema(
    [
        pa.field("fault", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("contrast", pa.float32()),
        pa.field("sharpness", pa.float32()),
        pa.field("digest", pa.string()),
        pa.field("phash", pa.uint64()),
        pa.field("dhash", pa.uint64()),
    ]
)
"""`fault`: why the file gives no picture, empty where it does; all others are null then. `width` and `height`: upright, in pixels.
`contrast` and `sharpness`: of grey from 0 to 255. `digest`: of the decoded pixels. `phash`, `dhash`: 64 bits."""

SIDE = 256
"""Of the square, in pixels, of whose area the picture is whose sharpness is measured."""
GREYS = np.arange(256)
COSINES = np.rint(np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64) * 4096)
"""The 8 lowest frequencies of the DCT-II over 32 pixels, (8, 32), in 4096ths: products of whole numbers far below 2^53."""


def kept(cache: Path) -> Known:
    """What is known of images in a cache, by curations and evaluations alike."""
    return Known(cache / f"measures-{VERSION}", SCHEMA)


@dataclass(frozen=True)
class Measure:
    """Decodes each image once; see `SCHEMA`."""

    workspace: Path

    def __call__(self, files: pa.Table) -> pa.Table:
        seen = [self._one(*file) for file in zip(files["uri"].to_pylist(), files["sha256"].to_pylist(), strict=True)]
        nothing = {"square": np.zeros((32, 32), np.uint8), "strip": np.zeros((8, 9), np.uint8)}
        small = {name: np.array([one.pop(name, black) for one in seen]) for name, black in nothing.items()}
        table = pa.Table.from_pylist(seen, schema=pa.schema(list(SCHEMA)[:-2]))
        faulty = np.array([bool(one["fault"]) for one in seen])
        for name, hashes in (("phash", phash(small["square"])), ("dhash", dhash(small["strip"]))):
            table = table.append_column(SCHEMA.field(name), pa.array(hashes, mask=faulty))
        return table.add_column(0, "sha256", files["sha256"])

    def _one(self, uri: str, sha256: str) -> dict[str, Any]:
        if not sha256:  # it could not be read when it was listed
            return {"fault": "unreadable"}
        try:
            image = open_image(listed_bytes(uri, sha256, self.workspace))
        except Unreadable as error:
            return {"fault": error.reason}
        return {"fault": "", "width": image.width, "height": image.height, "digest": pixel_digest(image), **looks(image)}


def looks(image: Image.Image | Bands) -> dict[str, Any]:
    """Contrast and sharpness of a picture, and its small grey ones of which hashes are made."""
    grey = image.convert("L")
    small = shrunk(grey, SIDE)
    square, strip = (small.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0) for size in ((32, 32), (9, 8)))
    return {"contrast": contrast(grey), "sharpness": sharpness(np.asarray(small)), "square": np.asarray(square), "strip": np.asarray(strip)}


def shrunk(grey: Image.Image, side: int) -> Image.Image:
    """The picture with an area of at most `side` x `side`, in its own proportions."""
    scale = (grey.width * grey.height) ** 0.5 / side
    if scale <= 1:
        return grey
    size = max(1, round(grey.width / scale)), max(1, round(grey.height / scale))
    return grey.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)  # BILINEAR would blur what is shrunk


def contrast(grey: Image.Image) -> float:
    """Standard deviation of its pixels, from whole numbers alone up to the root."""
    counts = np.array(grey.histogram())
    total, squares, pixels = int(counts @ GREYS), int(counts @ GREYS**2), grey.width * grey.height
    return float((pixels * squares - total**2) ** 0.5) / pixels


def sharpness(grey: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of (H, W) pixels, over those that have four neighbours; 0 where none has."""
    if min(grey.shape) < 3:
        return 0.0
    pixels = grey.astype(np.float32)  # all below are whole numbers, so that sums are exact; no BLAS, whose threads would fight ours
    laplacian = pixels[:-2, 1:-1] + pixels[2:, 1:-1]
    laplacian += pixels[1:-1, :-2]
    laplacian += pixels[1:-1, 2:]
    laplacian -= 4 * pixels[1:-1, 1:-1]
    mean, square = (float(values.sum(dtype=float)) / laplacian.size for values in (laplacian, np.square(laplacian)))
    return square - mean**2


def phash(squares: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Of each of (N, 32, 32) grey pictures; see the module."""
    lowest = (COSINES @ squares.astype(float) @ COSINES.T).reshape(-1, 64)
    return packed(lowest > np.median(lowest, axis=1, keepdims=True))


def dhash(strips: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Of each of (N, 8, 9) grey pictures; see the module."""
    return packed((strips[:, :, 1:] > strips[:, :, :-1]).reshape(-1, 64))


def packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Each row of 64 bits as a number, the first bit its highest."""
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)
