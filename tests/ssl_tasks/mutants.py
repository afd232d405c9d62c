"""Damaged images: whole ones of every format that is read, and what bits, disks, networks and ill will make of them."""

import io
import struct
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

Random = np.random.Generator
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def photo(mode: str = "RGB", seed: int = 0) -> Image.Image:
    """40 x 32 px, smooth."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize((40, 32), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def run_length_bmp() -> bytes:
    """A BMP in runs of 8-bit palette colours, with ends of lines, a jump and literal pixels: Pillow reads these, but writes none."""
    rows = b"\x28\x05\x00\x00" * 10 + b"\x14\x07\x00\x02\x05\x01" + b"\x00\x04\x01\x02\x03\x04" + b"\x00\x00" + b"\x28\x09\x00\x00" * 20 + b"\x00\x01"
    palette = bytes(value for i in range(256) for value in (i, 255 - i, i, 0))
    start = 14 + 40 + len(palette)
    return (
        struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
        + struct.pack("<IiiHHIIiiII", 40, 40, 32, 1, 8, 1, len(rows), 0, 0, 256, 0)
        + palette
        + rows
    )


def wholes() -> dict[str, bytes]:
    """Images that can be read, of every format and of every way of storing pixels that Pillow can write."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"

    sixteen = Image.fromarray(np.arange(32 * 40, dtype=np.uint16).reshape(32, 40) * 50)
    tiffs = {"raw": "RGB", "tiff_lzw": "RGB", "tiff_adobe_deflate": "RGBA", "packbits": "L", "jpeg": "RGB", "group4": "1", "zstd": "CMYK"}
    array = io.BytesIO()
    np.save(array, np.asarray(photo()))
    return {
        "baseline.jpg": encoded(photo(), "JPEG", exif=exif),
        "progressive.jpg": encoded(photo(), "JPEG", progressive=True),
        "cmyk.jpg": encoded(photo("CMYK"), "JPEG"),
        "grey.jpg": encoded(photo("L"), "JPEG"),
        "several.mpo.jpg": encoded(photo(), "MPO", save_all=True, append_images=[photo(seed=1)]),
        "rgb.png": encoded(photo(), "PNG", exif=exif),
        "alpha.png": encoded(photo("RGBA"), "PNG"),
        "palette.png": encoded(photo().quantize(16), "PNG", transparency=3),
        "sixteen.png": encoded(sixteen, "PNG"),
        "bits.png": encoded(photo("1"), "PNG"),
        "animated.png": encoded(photo(), "PNG", save_all=True, append_images=[photo(seed=1)]),
        "lossy.webp": encoded(photo(), "WEBP", exif=exif),
        "lossless.webp": encoded(photo("RGBA"), "WEBP", lossless=True),
        "animated.webp": encoded(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)]),
        "rgb.bmp": encoded(photo(), "BMP"),
        "palette.bmp": encoded(photo("P"), "BMP"),
        "runs.bmp": run_length_bmp(),
        **{f"{packing}.tif": encoded(photo(mode), "TIFF", compression=packing) for packing, mode in tiffs.items()},
        "lab.tif": encoded(photo("LAB"), "TIFF"),
        "sixteen.tif": encoded(sixteen, "TIFF", compression="tiff_lzw"),
        "pages.tif": encoded(photo(), "TIFF", save_all=True, append_images=[photo(seed=1)]),
        "still.gif": encoded(photo(), "GIF"),
        "animated.gif": encoded(photo(), "GIF", save_all=True, append_images=[photo(seed=1)]),
        "array.npy": array.getvalue(),
    }


def flip(data: bytearray, random: Random) -> None:
    for place in random.integers(0, len(data), random.integers(1, 16)):
        data[place] ^= 1 << int(random.integers(8))


def scramble(data: bytearray, random: Random) -> None:
    place, length = _stretch(data, random)
    data[place : place + length] = random.bytes(length)


def truncate(data: bytearray, random: Random) -> None:
    del data[int(random.integers(len(data))) :]


def remove(data: bytearray, random: Random) -> None:
    place, length = _stretch(data, random)
    del data[place : place + length]


def insert(data: bytearray, random: Random) -> None:
    place, length = _stretch(data, random)
    data[place:place] = random.bytes(length)


def repeat(data: bytearray, random: Random) -> None:
    place, length = _stretch(data, random)
    data[place:place] = data[place : place + length] * int(random.integers(1, 50))


def swap(data: bytearray, random: Random) -> None:
    (one, length), (other, _) = _stretch(data, random), _stretch(data, random)
    first, second = data[one : one + length], data[other : other + length]
    data[one : one + len(second)] = second
    data[other : other + len(first)] = first


def overstate(data: bytearray, random: Random) -> None:
    """Lengths, sizes and offsets near the start, at their largest or smallest."""
    for place in random.integers(0, min(len(data), 300), random.integers(1, 4)):
        width = int(random.choice([1, 2, 4]))
        value = int(random.choice(EXTREMES)) & ((1 << 8 * width) - 1)
        data[place : place + width] = value.to_bytes(width, "big" if random.integers(2) else "little")


DAMAGES: list[Callable[[bytearray, Random], None]] = [flip, scramble, truncate, remove, insert, repeat, swap, overstate]


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of damaged images: each whole one in turn, damaged in one way or in several, or grafted onto another."""
    random, whole = np.random.default_rng(seed), wholes()
    names = list(whole)
    for number in range(count):
        name = names[number % len(names)]
        data = bytearray(whole[name])
        if random.integers(8) == 0:
            other = whole[names[random.integers(len(names))]]
            data[int(random.integers(len(data))) :] = other[int(random.integers(len(other))) :]
        elif random.integers(40) == 0:
            data[4:] = random.bytes(int(random.integers(2000)))
        for _ in range(random.integers(1, 3)):
            if data:
                DAMAGES[random.integers(len(DAMAGES))](data, random)
        yield f"{number:06d}.{name.split('.')[-1]}", bytes(data)


def _stretch(data: bytearray, random: Random) -> tuple[int, int]:
    return int(random.integers(len(data))), int(random.integers(1, 200))
