"""What one decoding of a picture tells: contrast, sharpness and hashes, recomputed from their formulas; known once for all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.fft import dctn
from scipy.ndimage import laplace
from test_curate import curated, raw, save, smooth

from ssl_tasks.curate import shards
from ssl_tasks.data import manifest
from ssl_tasks.data import measures as made
from ssl_tasks.data.measures import Measure, dhash, looks, phash, sharpness


def bits(value: int) -> list[int]:
    return [int(bit) for bit in f"{value:064b}"]


def scene(side: int) -> Image.Image:
    """A picture with detail at every scale, of power falling with frequency as in photographs, at any size: (1 / f) spectrum."""
    random = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(1024) * 1024, np.fft.rfftfreq(1024) * 1024, indexing="ij"))
    spectrum = np.fft.rfft2(random.normal(size=(1024, 1024))) / np.maximum(frequency, 1)
    pixels = np.fft.irfft2(spectrum)
    pixels = 127 + 45 * (pixels - pixels.mean()) / pixels.std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.BOX)


def test_contrast_is_the_standard_deviation_of_grey() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    assert looks(image)["contrast"] == pytest.approx(np.asarray(image.convert("L"), float).std(), rel=1e-12)
    assert looks(Image.new("RGB", (5000, 40), (17, 17, 17)))["contrast"] == 0


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    assert sharpness(grey) == pytest.approx(laplace(grey.astype(float))[1:-1, 1:-1].var(), rel=1e-12)
    assert sharpness(grey[:2]) == sharpness(grey[:, :2]) == sharpness(np.full((9, 9), 200, np.uint8)) == 0


def test_sharpness_compares_pictures_of_unlike_sizes() -> None:
    whole = scene(1024)
    own = {side: looks(whole.resize((side, side), Image.Resampling.BOX))["sharpness"] for side in (128, 256, 512, 1024)}
    assert max(own.values()) < 2 * min(own.values())
    blurred = looks(whole.filter(ImageFilter.GaussianBlur(8)))["sharpness"]
    enlarged = looks(whole.resize((64, 64), Image.Resampling.BOX).resize((1024, 1024), Image.Resampling.BICUBIC))["sharpness"]
    assert max(blurred, enlarged) < min(own.values()) / 8


def test_phash_tells_which_of_the_lowest_frequencies_lie_above_their_median() -> None:
    pixels = np.stack([smooth(seed) for seed in range(200)])
    lowest = dctn(pixels.astype(float), axes=(1, 2))[:, :8, :8].reshape(200, 64)
    wanted = lowest > np.median(lowest, axis=1, keepdims=True)
    found = np.array([bits(value) for value in phash(pixels).tolist()], bool)
    assert (found != wanted).mean() < 1e-3  # where rounded cosines put a frequency on the other side of its neighbour, the median
    assert phash(np.zeros((1, 32, 32), np.uint8)).tolist() == [0]
    assert bits(phash(np.full((1, 32, 32), 77, np.uint8))[0]) == [1] + [0] * 63


def test_dhash_tells_which_pixels_are_brighter_than_their_left_neighbour() -> None:
    pixels = np.random.default_rng(0).integers(0, 4, (50, 8, 9), np.uint8)
    for picture, value in zip(pixels, dhash(pixels).tolist(), strict=True):
        assert bits(value) == [int(picture[y, x + 1] > picture[y, x]) for y in range(8) for x in range(8)]


def test_a_hash_does_not_depend_on_the_pictures_beside_it() -> None:
    pixels = np.stack([smooth(seed) for seed in range(70)])
    assert phash(pixels).tolist() == [phash(picture[None])[0] for picture in pixels]


@pytest.mark.parametrize("edit", ["jpeg", "half", "brighter", "grey"])
def test_hashes_change_little_under_what_keeps_a_picture_the_same(edit: str, tmp_path: Path) -> None:
    del tmp_path
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        image = Image.fromarray(noise).resize((200, 200), Image.Resampling.BICUBIC)
        edited = {
            "jpeg": lambda image=image: Image.fromarray(np.asarray(image) // 8 * 8),
            "half": lambda image=image: image.resize((100, 100)),
            "brighter": lambda image=image: image.point(lambda value: value * 0.9 + 20),
            "grey": lambda image=image: image.convert("L"),
        }[edit]()
        one, other = looks(image), looks(edited)
        for hashed, small in ((phash, "square"), (dhash, "strip")):
            assert int(hashed(one[small][None])[0] ^ hashed(other[small][None])[0]).bit_count() <= 6


def measured(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    from hashlib import sha256

    import pyarrow as pa

    files = pa.table({"uri": names, "sha256": [sha256((folder / name).read_bytes()).hexdigest() if name else "" for name in names]})
    table = Measure(folder)(files)
    assert table.schema.names == ["sha256", *made.SCHEMA.names]
    assert table.cast(pa.schema([table.schema.field(0), *made.SCHEMA])) == table
    return table.select(made.SCHEMA.names).to_pylist()


def test_a_file_that_gives_no_picture_has_a_fault_and_no_measures(tmp_path: Path) -> None:
    save(smooth(0), tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    save(smooth(0), tmp_path / "c.bmp")
    first, broken, unlisted, again = measured(tmp_path, ["a.png", "b.png", "", "c.bmp"])
    assert first == again
    assert (first["fault"], first["width"], first["height"]) == ("", 32, 32)
    assert None not in first.values()
    assert broken == unlisted == {**dict.fromkeys(made.SCHEMA.names), "fault": "unreadable"}


def test_an_image_is_decoded_once_for_all_steps_and_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        save(smooth(seed), tmp_path / f"pool/{seed}.png")
    raw(tmp_path)
    decoded: list[str] = []
    one = Measure._one
    monkeypatch.setattr(Measure, "_one", lambda self, uri, sha256: decoded.append(uri) or one(self, uri, sha256))
    steps: list[Any] = ["integrity", "exact_duplicates", "perceptual_duplicates", {"kind": "filter", "where": "sharpness > 0"}]
    curated(tmp_path, steps)
    assert sorted(decoded) == [f"pool/{seed}.png" for seed in range(4)]
    save(smooth(9), tmp_path / "pool/9.png")
    raw(tmp_path)
    _, table, _ = curated(tmp_path, steps, key="more")
    assert decoded[4:] == ["pool/9.png"]
    assert len(manifest.kept(table)) == 5
    assert shards.LARGEST > 4
