"""Integrity: every reason for which an image is quarantined, every way of storing pixels that is none, and bombs that cost nothing."""

import csv
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutants import encoded, photo, run_length_bmp
from peak_memory import taken
from PIL import Image, PngImagePlugin
from test_curate import curated, raw, save, smooth, why

from ssl_tasks.data.images import Unreadable, _eight_bit, header, open_image

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
NOISE = np.random.default_rng(0).integers(0, 2, (32, 32), np.uint8)


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF of one page: tag -> (type, count, value)."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data


def grey_tiff(width: int, height: int, **more: tuple[int, int, int]) -> bytes:
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {int(tag[1:]): entry for tag, entry in more.items()}
    return tiff(tags, bytes(4000))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, width: int = 40, height: int = 32) -> bytes:
    """A whole PNG with chunks before its pixels, and a header that claims this size."""
    whole = encoded(photo(), "PNG")
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return whole[:8] + head + b"".join(chunks) + whole[8 + len(head) :]


def jpeg_of(width: int, height: int, scans: int = 1) -> bytes:
    """A progressive JPEG whose header claims a size, its first scan over and over."""
    whole = encoded(photo("L"), "JPEG", progressive=True)
    frame, scan = whole.index(b"\xff\xc2"), whole.index(b"\xff\xda")
    end = whole.index(b"\xff", scan + 2)
    return whole[: frame + 5] + struct.pack(">HH", height, width) + whole[frame + 9 : scan] + whole[scan:end] * scans + whole[end:]


def webp_of(width: int, height: int) -> bytes:
    """An extended WebP whose canvas claims a size."""
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, 2) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


BLANK: dict[str, np.ndarray] = {"black": NOISE * 0, "white": NOISE * 0 + 255, "nearly": NOISE + 200}
REASONS: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "empty"),
    "text.png": (b"no image", "wrong type"),
    "cut.jpg": (encoded(photo(), "JPEG")[:-40], "truncated"),
    "cut.tif": (grey_tiff(40, 4000, t273=(4, 1, 200), t278=(3, 1, 32), t279=(4, 1, 1280)), "truncated"),
    "broken.png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "unreadable"),
    "none.gif": (b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b";", "unreadable"),
    "no_width.bmp": (encoded(photo(), "BMP").replace(struct.pack("<i", 40) + struct.pack("<i", 32), bytes(8)), "unreadable"),
    "no_width.png": (png_with(width=0), "unreadable"),
    "no_height.jpg": (jpeg_of(40, 0), "unreadable"),
    "no_width.tif": (grey_tiff(0, 32, t273=(4, 1, 200), t278=(3, 1, 32), t279=(4, 1, 1280)), "unreadable"),
    "small.png": (encoded(photo().resize((40, 7)), "PNG"), "too small"),
    "large.png": (encoded(photo().resize((400, 300)), "PNG"), "too large"),
    "long.png": (encoded(photo().resize((200, 9)), "PNG"), "absurd aspect"),
    **{f"{name}.png": (encoded(Image.fromarray(pixels), "PNG"), "blank") for name, pixels in BLANK.items()},
}
TILE = {"t322": (4, 1, 30_000), "t323": (4, 1, 30_000), "t324": (4, 1, 200), "t325": (4, 1, 4000)}
FRAME = struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
BOMBS: dict[str, bytes] = {
    "a header of 4 gigapixels": png_with(width=2**16, height=2**16),
    "the widest PNG that there may be": png_with(width=2**31 - 1, height=2**31 - 1),
    "a JPEG of 65,500 px": jpeg_of(65_500, 65_500),
    "6,000 scans over 12 megapixels": jpeg_of(4000, 3000, scans=6000),
    "a WebP canvas of 4 gigapixels": webp_of(2**16 - 1, 2**16 - 1),
    "a GIF of 65,535 px": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + FRAME,
    "a TIFF of 4 gigapixels": grey_tiff(2**16, 2**16, t273=(4, 1, 200), t278=(4, 1, 2**16), t279=(4, 1, 4000)),
    "a small TIFF of a tile of 900 megapixels": grey_tiff(16, 16, t259=(3, 1, 8), **TILE),
    "runs over 100 megapixels": run_length_bmp().replace(struct.pack("<ii", 40, 32), struct.pack("<ii", 10_000, 10_000)),
    "a NumPy file of 10 gigapixels": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000), }".ljust(117) + b"\n",
}


def test_each_unusable_image_is_quarantined_with_its_reason(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for name, (data, _) in REASONS.items():
        (pool / name).write_bytes(data)
    save(smooth(0), pool / "picture.png")
    save(np.where(NOISE, 10, 12).astype(np.uint8), pool / "faint.png")
    (pool / "gone.png").symlink_to(pool / "nowhere.png")
    raw(tmp_path)
    step = {"kind": "integrity", "min_side": 8, "max_pixels": 100_000, "max_aspect": 20, "min_contrast": 0.9}
    dataset, table, _ = curated(tmp_path, [step])
    wanted = {name: reason for name, (_, reason) in REASONS.items()} | {"gone.png": "unreadable"}
    assert why(table) == {name: (f"integrity: {reason}", None) for name, reason in wanted.items()}
    with dataset.path("quarantine.csv").open(newline="") as file:
        assert dict(list(csv.reader(file))[1:]) == {f"pool/{name}": reason for name, reason in wanted.items()}
    measured = {row["uri"]: row["contrast"] for row in table.to_pylist()}
    assert measured["pool/faint.png"] == pytest.approx(1, abs=0.01)
    assert measured["pool/nearly.png"] == pytest.approx(0.5, abs=0.01)
    assert measured["pool/text.png"] is None


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_costs_memory_or_time(name: str) -> None:
    data = BOMBS[name]

    def read() -> None:
        header(data)
        with pytest.raises(Unreadable, match="too large"):
            open_image(data)

    began = time.process_time()
    assert taken(read) < 50_000  # kB
    assert time.process_time() - began < 0.5


def test_text_that_unpacks_to_gigabytes_is_refused_and_long_text_is_passed_over() -> None:
    zeros = zlib.compressobj(9)
    packed = b"".join(zeros.compress(bytes(1 << 20)) for _ in range(300)) + zeros.flush()

    def read() -> None:
        for kind, start in ((b"zTXt", b"note\0\0"), (b"iTXt", b"note\0\1\0\0\0"), (b"iCCP", b"icc\0\0")):
            try:
                found = open_image(png_with(chunk(kind, start + packed)))
            except Unreadable as error:
                assert error.reason == "unreadable"  # noqa: PT017 - to refuse it, or to read the picture without its text
            else:
                assert found.size == (40, 32)

    assert taken(read) < 100_000  # kB
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "x" * 500_000, zip=True)
    text.add_itxt("note", "é" * 200_000, zip=True)
    assert np.array_equal(open_image(encoded(photo(), "PNG", pnginfo=text)), photo())


def seen(data: bytes) -> np.ndarray:
    return np.asarray(open_image(data).convert("RGB"), float)


RGB = np.asarray(photo(), float)
PALETTE = np.asarray(photo().quantize(256).convert("RGB"), float)
GREY = np.asarray(photo("L").convert("RGB"), float)
SIXTEEN = Image.fromarray(np.asarray(photo("L")).astype(np.uint16) * 257)
STORED: dict[str, tuple[Callable[[], bytes], np.ndarray, float]] = {
    "grey and alpha": (lambda: encoded(photo("LA"), "PNG"), GREY, 0),
    "palette": (lambda: encoded(photo().quantize(256), "PNG"), PALETTE, 0),
    "palette GIF": (lambda: encoded(photo().quantize(256), "GIF"), PALETTE, 0),
    "palette TIFF": (lambda: encoded(photo().quantize(256), "TIFF"), PALETTE, 0),
    "one bit": (lambda: encoded(photo("1"), "PNG"), np.asarray(photo("1").convert("RGB"), float), 0),
    "one bit fax": (lambda: encoded(photo("1"), "TIFF", compression="group4"), np.asarray(photo("1").convert("RGB"), float), 0),
    "16 bits": (lambda: encoded(SIXTEEN, "PNG"), GREY, 0),
    "16 bits TIFF": (lambda: encoded(SIXTEEN, "TIFF"), GREY, 0),
    "LAB": (lambda: encoded(photo("LAB"), "TIFF"), RGB, 3),
    "YCbCr": (lambda: encoded(photo("YCbCr"), "TIFF"), RGB, 3),
    "CMYK JPEG": (lambda: encoded(photo("CMYK"), "JPEG", quality=98), RGB, 6),
    "CMYK TIFF": (lambda: encoded(photo("CMYK"), "TIFF"), RGB, 3),
    "several pages": (lambda: encoded(photo(), "TIFF", save_all=True, append_images=[photo(seed=1)]), RGB, 0),
    "animated GIF": (lambda: encoded(photo().quantize(256), "GIF", save_all=True, append_images=[photo(seed=1).quantize(256)]), PALETTE, 0),
    "animated WebP": (lambda: encoded(photo(), "WEBP", lossless=True, save_all=True, append_images=[photo(seed=1)]), RGB, 0),
    "animated PNG": (lambda: encoded(photo(), "PNG", save_all=True, append_images=[photo(seed=1)]), RGB, 0),
    "progressive JPEG": (lambda: encoded(photo(), "JPEG", quality=98, progressive=True), RGB, 6),
    "JPEG and what a phone appends": (lambda: encoded(photo(), "JPEG", quality=98) + bytes(range(256)) * 40 + b"\xff\xda\xff\xd8", RGB, 6),
    "several views in a JPEG": (lambda: encoded(photo(), "MPO", quality=98, save_all=True, append_images=[photo(seed=1)]), RGB, 6),
    "runs of a BMP": (run_length_bmp, np.full((32, 40, 3), 127.0), 140),
}


@pytest.mark.parametrize("name", STORED)
def test_however_pixels_are_stored_the_picture_is_the_same(name: str) -> None:
    store, wanted, rounding = STORED[name]
    found = seen(store())
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).mean() <= rounding


@pytest.mark.parametrize("mode", ["PA", "RGBa", "HSV", "I;16B", "I;16L"])
def test_modes_that_few_files_have_become_eight_bit_too(mode: str) -> None:
    if mode.startswith("I"):
        values = (np.arange(64).reshape(8, 8) * 1000).astype(">u2" if mode.endswith("B") else "<u2")
        image = Image.frombytes(mode, (8, 8), values.tobytes())
        assert np.array_equal(_eight_bit(image), (values / 257).round().astype(np.uint8))
    elif mode == "PA":
        image = photo().quantize(16).convert("PA")
        assert np.array_equal(_eight_bit(image), photo().quantize(16).convert("RGB"))
    else:
        image = photo("RGBA" if mode == "RGBa" else "RGB").convert(mode)
        assert np.abs(np.asarray(_eight_bit(image).convert("L"), float) - np.asarray(photo("L"), float)).mean() < 4


def test_reading_says_nothing_on_the_terminal(tmp_path: Path) -> None:
    packed = bytearray(encoded(photo(), "TIFF", compression="tiff_lzw"))
    packed[20:60] = b"\xff" * 40
    (tmp_path / "code.tif").write_bytes(packed)
    (tmp_path / "exif.jpg").write_bytes(encoded(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(60))))
    (tmp_path / "half.png").write_bytes(encoded(Image.new("L", (10_000, 9_500)), "PNG"))
    script = "import sys\nfrom ssl_tasks.data.images import *\nfor name in sys.argv[1:]:\n try:\n  open_image(Path(name))\n except Unreadable:\n  pass"
    done = subprocess.run([sys.executable, "-W", "default", "-c", script, *map(str, tmp_path.iterdir())], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
