"""Files as they lie in real folders: each becomes an upright 8-bit picture or is quarantined with a reason; nothing crashes."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.artifacts import Dataset
from schemas.job import Job
from schemas.stages import Curate, Ingest
from ssl_tasks.curate import curate
from ssl_tasks.data import manifest
from ssl_tasks.data.images import Unreadable, header, open_image, pixel_digest
from ssl_tasks.data.store import open_store
from ssl_tasks.ingest import ingest
from ssl_tasks.tracking import JSONLines

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
RAMP = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width: int = 32, height: int = 24, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def png(width: int, height: int) -> bytes:
    """A PNG whose header is valid and claims this size; its pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def animation() -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    for frame in frames:
        frame.paste("white", (0, 0, 8, 8))
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def oriented(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(), kind, exif=exif)


def array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


BAD: dict[str, tuple[bytes, str]] = {
    "zero_bytes.jpg": (b"", "empty"),
    "truncated.jpg": (encoded(photo(), "JPEG")[:-200], "truncated"),
    "truncated.png": (encoded(photo(64, 64), "PNG")[:900], "truncated"),
    "truncated.bmp": (encoded(photo(), "BMP")[:-50], "truncated"),
    "truncated.webp": (encoded(photo(64, 64), "WEBP", lossless=True)[:-100], "unreadable"),
    "header_only.jpg": (encoded(photo(), "JPEG")[:20], "unreadable"),
    "text.jpg": (b"This is no image.\n" * 20, "wrong type"),
    "page.png": (b"<html><body>404 Not Found</body></html>", "wrong type"),
    "drawing.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\nshowpage\n", "wrong type"),
    "bomb.png": (png(60_000, 60_000), "too large"),
    "large.png": (png(15_000, 12_000), "too large"),
    "float.tif": (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "wrong type"),
    "int32.tif": (encoded(Image.fromarray(RAMP.astype(np.int32) * 1000), "TIFF"), "wrong type"),
    "tiny.png": (encoded(photo(32, 7), "PNG"), "too small"),
    "ribbon.png": (encoded(photo(400, 10), "PNG"), "absurd aspect"),
    "float.npy": (array(RAMP.astype(np.float32)), "wrong type"),
    "objects.npy": (array(np.array([[{}]])), "wrong type"),
    "line.npy": (array(RAMP[0].astype(np.uint8)), "wrong type"),
    "truncated.npy": (array(RAMP.astype(np.uint8))[:-9], "truncated"),
    "header.npy": (b"\x93NUMPY\x01\x00v\x00{}", "unreadable"),
    "large.npy": (array(RAMP.astype(np.uint8)).replace(b"(24, 32), }", b"(15000, 12000), }")[:300], "too large"),
    "noise.gif": (b"GIF89a" + bytes(range(200)), "unreadable"),
}
GOOD: dict[str, tuple[bytes, str]] = {
    "grey16.png": (encoded(Image.fromarray(RAMP * 85), "PNG"), "I;16"),
    "cmyk.jpg": (encoded(photo(mode="CMYK"), "JPEG", quality=95), "CMYK"),
    "palette.png": (encoded(photo().quantize(16), "PNG"), "P"),
    "alpha.png": (encoded(photo(mode="RGBA"), "PNG"), "RGBA"),
    "grey_alpha.png": (encoded(photo(mode="LA"), "PNG"), "LA"),
    "bits.png": (encoded(photo(mode="1"), "PNG"), "1"),
    "animated.gif": (animation(), "P"),
    "UPPER.JPEG": (encoded(photo(), "JPEG"), "RGB"),
    "a_png_named.jpg": (encoded(photo(), "PNG"), "RGB"),
    "grün 图片 🙂.webp": (encoded(photo(), "WEBP"), "RGB"),
    "new\nline.png": (encoded(photo(), "PNG"), "RGB"),
    "packed.tif": (encoded(photo(), "TIFF", compression="tiff_lzw"), "RGB"),
    "grey.npy": (array(np.asarray(photo().convert("L"))), "L"),
    "colours.npy": (array(np.asarray(photo())), "RGB"),
    "rotated.jpg": (oriented(6), "RGB"),
}


def test_a_folder_of_bad_and_odd_files_goes_through_ingest_and_curation(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for name, (data, _) in (BAD | GOOD).items():
        (pool / name).write_bytes(data)
    (pool / "dangling.png").symlink_to(pool / "gone.png")
    (pool / "self.png").symlink_to(pool / "self.png")
    (pool / "outside.png").symlink_to(tmp_path / "elsewhere.png")
    (pool / "folder.jpg").mkdir()
    (pool / "folder.jpg/loop").symlink_to(pool, target_is_directory=True)
    tracker = JSONLines(tmp_path / "events.jsonl")
    job = Job(
        name="raw",
        pipeline="t",
        stage=Ingest.model_validate({"source": {"kind": "folder", "path": "pool"}}),
        key="raw",
        outputs={"": "raw"},
        workspace=tmp_path,
    )
    ingest(job, tracker)
    stage = Curate.model_validate({"dataset": "raw", "steps": ["integrity", "exact_duplicates"]})
    job = Job(name="clean", pipeline="t", stage=stage, key="clean", inputs={"raw": "raw"}, outputs={"": "clean"}, workspace=tmp_path)
    dataset = curate(job, tracker)[""]
    assert isinstance(dataset, Dataset)
    table = manifest.read(dataset)
    decided = {row["uri"].removeprefix("pool/"): row for row in table.to_pylist()}
    wanted = {name: f"integrity: {reason}" for name, (_, reason) in BAD.items()}
    wanted |= {"dangling.png": "integrity: unreadable", "self.png": "integrity: unreadable"}
    assert {name: row["why"] for name, row in decided.items() if row["why"].startswith("integrity")} == wanted
    assert set(decided) == wanted.keys() | GOOD.keys()
    assert {name: decided[name]["mode"] for name in GOOD} == {name: mode for name, (_, mode) in GOOD.items()}
    assert (decided["dangling.png"]["sha256"], decided["dangling.png"]["bytes"]) == ("", 0)
    store = open_store(manifest.kept(table), tmp_path, 16, 3, tmp_path / "cache")
    assert (
        len(store) == dataset.kept == len(GOOD) - 5
    )  # one picture lies there five times: as PNG with and without alpha, as PNG named jpg, as TIFF, as array; its grey twice
    assert all(image.std() > 10 for image in store)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_a_reason_also_when_read_from_its_path(name: str, tmp_path: Path) -> None:
    data, reason = BAD[name]
    (tmp_path / name).write_bytes(data)
    if reason in ("too small", "absurd aspect"):
        assert open_image(tmp_path / name).mode == "RGB"
        return
    for source in (tmp_path / name, data):
        with pytest.raises(Unreadable, match=reason):
            open_image(source)


def test_above_the_pixels_that_are_asked_for_nothing_is_decoded() -> None:
    for data in (encoded(photo(), "PNG"), array(np.asarray(photo()))):
        assert open_image(data, max_pixels=32 * 24).size == (32, 24)
        with pytest.raises(Unreadable, match="too large"):
            open_image(data, max_pixels=32 * 24 - 1)


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    image = open_image(encoded(Image.fromarray(values), "PNG"))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), (values / 257).round().astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_laid_over_white(mode: str) -> None:
    image = Image.new(mode, (8, 8), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
    image.paste((0, 0, 0, 255) if mode == "RGBA" else (0, 255), (0, 0, 4, 8))
    pixels = np.asarray(open_image(encoded(image, "PNG")))
    assert pixels.shape == (8, 8, 3)
    assert np.unique(pixels[:, :4]).tolist() == [0]
    assert np.unique(pixels[:, 4:]).tolist() == [255]


def test_a_transparent_palette_colour_is_laid_over_white() -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 1]], np.uint8), 8, axis=0).repeat(4, axis=1))
    image.putpalette([0, 0, 0, 200, 0, 0])
    pixels = np.asarray(open_image(encoded(image, "PNG", transparency=0)))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, -1].tolist() == [200, 0, 0]


def test_cmyk_becomes_rgb_of_the_same_look() -> None:
    original = photo()
    read = np.asarray(open_image(encoded(original.convert("CMYK"), "JPEG", quality=98)), float)
    assert np.abs(read - np.asarray(original)).mean() < 6


def test_of_an_animation_the_first_frame_is_read() -> None:
    assert np.unique(np.asarray(open_image(animation())).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_images_are_turned_upright_once(kind: str, orientation: int, undo: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(io.BytesIO(oriented(1, kind))) as unturned:
        wanted = undo(np.asarray(unturned.convert("RGB")))
    assert np.array_equal(np.asarray(open_image(oriented(orientation, kind))), wanted)


def test_a_damaged_exif_block_does_not_cost_the_image() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(60)))
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(open_image(encoded(photo(), "JPEG"))))


def test_random_damage_never_escapes_as_another_error() -> None:
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encoded(photo(), kind)
        for _ in range(60):
            damaged = bytearray(whole)
            for place in random.integers(0, len(whole), 8):
                damaged[place] = random.integers(256)
            data = bytes(damaged[: random.integers(len(whole) // 2, len(whole) + 1)])
            header(data)
            try:
                image = open_image(data, max_pixels=1_000_000)
            except Unreadable as error:
                assert error.reason in {"empty", "wrong type", "truncated", "unreadable", "too large"}  # noqa: PT017 - either outcome is right
            else:
                assert image.mode in ("L", "RGB")


def test_the_digest_is_of_what_is_seen_not_of_the_file() -> None:
    grey = photo(mode="L")
    digests = {pixel_digest(open_image(encoded(image, kind))) for image in (grey, grey.convert("RGB")) for kind in ("PNG", "BMP", "TIFF")}
    assert len(digests) == 1
    assert pixel_digest(Image.new("L", (4, 2))) != pixel_digest(Image.new("L", (2, 4)))


def test_a_header_is_read_without_its_pixels() -> None:
    assert header(png(9000, 9000)) == (9000, 9000, "RGB")
    assert header(b"no image") is None
    assert header(Path("nowhere.png")) is None
