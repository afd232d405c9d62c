"""Exact duplicates: equal pixels, whatever the file; the first is kept; those of other splits are counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_curate import curated, raw, save, smooth, why

STEPS = ["exact_duplicates"]


@pytest.mark.parametrize("name", ["b.bmp", "b.tif", "b.webp", "b.gif", "b.npy", "b.jpg"])
def test_equal_pixels_are_found_whatever_the_file_format(name: str, tmp_path: Path) -> None:
    pixels = smooth(0)
    if name == "b.jpg":
        save(pixels, tmp_path / "pool/b.jpg")
        pixels = np.asarray(Image.open(tmp_path / "pool/b.jpg"))
    elif name == "b.npy":
        (tmp_path / "pool").mkdir()
        np.save(tmp_path / "pool/b.npy", pixels)
    else:
        save(pixels, tmp_path / "pool" / name, **({"lossless": True} if name == "b.webp" else {}))
    save(pixels, tmp_path / "pool/a.png")
    raw(tmp_path)
    _, table, _ = curated(tmp_path, STEPS)
    assert why(table) == {name: ("exact_duplicates: equal pixels", 0)}


def test_of_equal_pixels_the_lowest_id_is_kept(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.bmp", "c/0.tif", "a/1.png"):
        save(smooth(0), tmp_path / "pool" / name)
    save(smooth(1), tmp_path / "pool/a/0.png")
    raw(tmp_path)
    dataset, table, _ = curated(tmp_path, STEPS)
    assert [Path(uri).relative_to("pool").as_posix() for uri in table["uri"].to_pylist()] == ["a/0.png", "a/1.png", "a/2.bmp", "b/1.png", "c/0.tif"]
    assert why(table) == dict.fromkeys(["a/2.bmp", "b/1.png", "c/0.tif"], ("exact_duplicates: equal pixels", 1))
    assert dataset.kept == 2


def test_a_single_other_pixel_or_another_shape_makes_another_picture(tmp_path: Path) -> None:
    pixels = smooth(0)
    other = pixels.copy()
    other[3, 5] ^= 1
    for name, each in {"a": pixels, "b": other, "c": pixels.reshape(16, 64), "d": pixels[:, ::-1]}.items():
        save(each, tmp_path / f"pool/{name}.png")
    raw(tmp_path)
    _, table, _ = curated(tmp_path, STEPS)
    assert not why(table)


def test_equal_to_an_image_of_another_split_is_counted_and_kept(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/b.bmp", "val/c.png", "test/d.png", "test/e.png"):
        save(smooth(0), tmp_path / "pool" / name)
    save(smooth(1), tmp_path / "pool/train/f.png")
    raw(tmp_path, splits=True)
    dataset, table, job = curated(tmp_path, STEPS)
    assert list(why(table)) == ["train/b.bmp"]
    assert dataset.metrics["curate/1_exact_duplicates/equal_to_other_split"] == 1
    assert "train images equal to an image of another split: 1" in (job.work / "events.jsonl").read_text()
