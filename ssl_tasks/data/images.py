"""Reading one image file, whatever is in it: either an upright 8-bit grey or RGB picture, or the reason why not."""

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 178_956_970
"""Pillow refuses larger images as decompression bombs."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Decoders that may run; the list keeps out those that start other programs, such as EPS."""
STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
"""First bytes of files in these formats: with one of them an unknown file is a damaged image, not a file of another type."""

# Pillow warns from half its limit on; here the limit of `integrity` decides, and a picture below it is no news.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Unreadable(Exception):
    """A file that gives no picture; `reason` is one of: empty, wrong type, truncated, unreadable, too large."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def open_image(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file, upright, in mode `L` or `RGB`.

    The EXIF orientation is applied; 16-bit grey is scaled to 8 bits; what is transparent is laid over white; CMYK, YCbCr and
    LAB become RGB; of an animation the first frame is read. Float and 32-bit pixels are measurements without a known white:
    they are `wrong type`.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: width times height above which nothing is decoded; above Pillow's limit nothing ever is.

    Raises:
        Unreadable: on anything that gives no picture, also where the file itself cannot be read.
    """
    with _opened(source) as image:
        if image.width * image.height > max_pixels:
            raise Unreadable("too large")
        try:
            image.load()
        except Exception as error:
            raise Unreadable(_reason(error)) from error
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # a damaged EXIF block says nothing of the pixels, which are whole
            upright = image.copy()
        return _eight_bit(upright)


def header(source: Path | bytes) -> tuple[int, int, str] | None:
    """Width, height and Pillow's mode as the file's header states them, before any rotation; None where it has no valid one."""
    try:
        with _opened(source) as image:
            return *image.size, image.mode
    except Unreadable:
        return None


def pixel_digest(image: Image.Image) -> str:
    """Hash of what is seen: equal for equal pixels whatever the file format, and for grey whether stored as grey or as RGB."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Image.Image]:
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
        yield image


def _reason(error: Exception) -> str:
    """Pillow's decoders raise almost anything on damaged bytes (SyntaxError, struct.error, EOFError, ...)."""
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return "too large"
    return "truncated" if isinstance(error, EOFError) or "truncat" in str(error).lower() else "unreadable"


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; some decoders hand it over in 32 bits
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("wrong type")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("wrong type")
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")
