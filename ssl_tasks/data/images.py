"""Reading one image file, whatever is in it: an upright 8-bit picture, grey, RGB or of other bands, or the reason why not."""

import ctypes
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

MAX_PIXELS = 178_956_970
"""Pillow refuses larger images as decompression bombs."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Decoders that may run; the list keeps out those that start other programs, such as EPS."""
STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
"""First bytes of files in these formats: with one of them an unknown file is a damaged image, not a file of another type."""

NUMPY = b"\x93NUMPY"
"""First bytes of a NumPy file."""

MAX_SCANNED = 1 << 36
"""Pixels times scans above which a progressive JPEG is a bomb: each of its scans, be it of ten bytes, goes over all pixels."""
MAX_RUN_LENGTH_PIXELS = 1 << 24
"""Of a run-length encoded BMP, which Pillow decodes pixel by pixel in Python."""
LENGTH, TILE_WIDTH, TILE_LENGTH = 257, 322, 323
"""TIFF tags, in pixels before any rotation. The decoder makes room for a whole tile, however small the picture."""
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
STRIP = 1 << 22
"""Pixels that are hashed at a time, so that a large picture is not copied whole."""
EIGHT_BIT = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)
"""Of each 16-bit value."""

# What Pillow thinks of a file is told by a reason, not on the terminal; above half its limit it would warn of every picture too.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):  # libtiff writes to the terminal by itself
    if (silence := getattr(ctypes.CDLL(_imaging.__file__), handler, None)) is not None:
        silence(None)


class Unreadable(Exception):
    """A file that gives no picture; `reason` is one of: empty, wrong type, truncated, unreadable, too large."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Bands:
    """A picture of 2, 4 or more channels: grey pictures of one size, to each of which is done what is done to it.

    Attributes:
        bands: the channels, each in mode `L`.
        size: width and height.
    """

    def __init__(self, bands: Sequence[Image.Image]) -> None:
        self.bands, self.size = tuple(bands), bands[0].size
        self.width, self.height = self.size

    def crop(self, box: tuple[int, int, int, int]) -> "Bands":
        return Bands([band.crop(box) for band in self.bands])

    def resize(self, size: tuple[int, int], resample: Image.Resampling, box: tuple[float, float, float, float]) -> "Bands":
        return Bands([band.resize(size, resample, box) for band in self.bands])

    def convert(self, mode: str) -> Image.Image:
        """A picture to look at: the mean of the bands."""
        mean = np.mean([np.asarray(band) for band in self.bands], axis=0)
        return Image.fromarray(mean.round().astype(np.uint8)).convert(mode)

    def tobytes(self) -> bytes:
        return b"".join(band.tobytes() for band in self.bands)


def open_image(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image | Bands:
    """The picture in a file, upright, in mode `L` or `RGB`, or as `Bands`.

    The EXIF orientation is applied; 16-bit grey is scaled to 8 bits; what is transparent is laid over white; CMYK, YCbCr and
    LAB become RGB; of an animation the first frame is read. Float and 32-bit pixels are measurements without a known white:
    they are `wrong type`. A NumPy file holds uint8 pixels (H, W) or (H, W, C), with any number C of channels.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: width times height above which nothing is decoded; above Pillow's limit nothing ever is.

    Raises:
        Unreadable: on anything that gives no picture, also where the file itself cannot be read.
    """
    if (array := _array(source, max_pixels)) is not None:
        return from_array(array)
    with _opened(source) as (image, file):
        try:
            if _is_bomb(image, file, max_pixels):
                raise Unreadable("too large")
            if _ends_early(image):
                raise Unreadable("truncated")
            image.load()
            return _eight_bit(_upright(image))
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(_reason(error)) from error


def header(source: Path | bytes) -> tuple[int, int, str] | None:
    """Width, height and Pillow's mode as the file's header states them, before any rotation; None where it has no valid one."""
    try:
        if (array := _array(source, MAX_PIXELS, pixels=False)) is not None:
            height, width, channels = array.shape
            return width, height, {1: "L", 3: "RGB"}.get(channels, f"{channels} bands")
        with _opened(source) as (image, _):
            return *image.size, image.mode
    except Unreadable:
        return None


def pixel_digest(image: Image.Image | Bands) -> str:
    """Hash of what is seen: equal for equal pixels whatever the file format, and for grey whether stored as grey or as RGB."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    if isinstance(image, Bands):
        digest.update(image.tobytes())
        return digest.hexdigest()
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image if rows >= image.height else image.crop((0, top, image.width, min(top + rows, image.height)))
        digest.update((strip if strip.mode == "RGB" else strip.convert("RGB")).tobytes())
    return digest.hexdigest()


def _array(source: Path | bytes, max_pixels: int, pixels: bool = True) -> NDArray[np.uint8] | None:
    """The (H, W, C) of a NumPy file, or only something of that shape; None for a file that is none."""
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except OSError as error:
        raise Unreadable("unreadable") from error
    with file:
        if file.read(len(NUMPY)) != NUMPY:
            return None
        try:
            file.seek(0)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        except Exception as error:
            raise Unreadable("unreadable") from error
        if dtype != np.uint8 or len(shape) not in (2, 3) or min(shape) < 1:
            raise Unreadable("wrong type")
        if shape[0] * shape[1] > min(max_pixels, MAX_PIXELS):
            raise Unreadable("too large")
        shape = (*shape, 1)[:3]
        if not pixels:
            return np.broadcast_to(np.uint8(0), shape)
        try:
            file.seek(0)
            found: NDArray[np.uint8] = np.lib.format.read_array(file, allow_pickle=False).reshape(shape)
        except Exception as error:
            raise Unreadable("truncated") from error
        return found


def from_array(array: NDArray[np.uint8]) -> Image.Image | Bands:
    """The picture of pixels (H, W, C)."""
    if array.shape[2] in (1, 3):
        return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    return Bands([Image.fromarray(np.ascontiguousarray(array[..., band])) for band in range(array.shape[2])])


@contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[ImageFile.ImageFile, IO[bytes]]]:
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except OSError as error:
        raise Unreadable("unreadable") from error
    with file:
        try:
            start = file.read(4)
            file.seek(0)
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise Unreadable("empty" if not start else "unreadable" if start.startswith(STARTS) else "wrong type") from error
        except Exception as error:
            raise Unreadable(_reason(error)) from error
        yield image, file


def _is_bomb(image: ImageFile.ImageFile, file: IO[bytes], max_pixels: int) -> bool:
    """Whether decoding would take far more memory or time than a picture of `max_pixels` may; nothing is decoded to tell."""
    pixels = image.width * image.height
    match image.format:
        case "JPEG" | "MPO":
            return pixels > max_pixels or pixels * _scans(file) > MAX_SCANNED
        case "TIFF":
            width, length = (int(image.tag_v2.get(tag, 1)) for tag in (TILE_WIDTH, TILE_LENGTH))  # type: ignore[attr-defined]  # of TIFF images
            return max(pixels, width * length) > max_pixels
        case "BMP" if image.tile and image.tile[0][0] == "bmp_rle":
            return pixels > min(max_pixels, MAX_RUN_LENGTH_PIXELS)
    return pixels > max_pixels


def _ends_early(image: ImageFile.ImageFile) -> bool:
    """Whether a TIFF's strips are fewer than its rows need: Pillow would leave the others black."""
    if image.format != "TIFF":
        return False
    rows = int(image.tag_v2[LENGTH])  # type: ignore[attr-defined]  # of TIFF images
    return max((tile.extents or (0, 0, 0, rows))[3] for tile in image.tile) < rows


def _scans(file: IO[bytes]) -> int:
    """Of a JPEG, at most: what follows the picture may hold the same two bytes by chance."""
    place = file.tell()
    file.seek(0)
    found = file.read().count(b"\xff\xda")
    file.seek(place)
    return found


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing of the pixels, which are whole
        turn = None
    return image if turn is None else image.transpose(turn)


def _reason(error: Exception) -> str:
    """Pillow's decoders raise almost anything on damaged bytes (SyntaxError, struct.error, EOFError, ...)."""
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return "too large"
    return "truncated" if isinstance(error, EOFError) or "truncat" in str(error).lower() else "unreadable"


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; some decoders hand it over in 32 bits
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= len(EIGHT_BIT):
            raise Unreadable("wrong type")
        return Image.fromarray(EIGHT_BIT[values])
    if image.mode == "F":
        raise Unreadable("wrong type")
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)
