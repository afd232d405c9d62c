"""`sslflow embed`'s work: features of a folder of images in one file, of each image what the checkpoint says of it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from handed_out import CLASSES, checkpoint
from numpy.typing import NDArray
from PIL import Image
from tiny_training import CONV, VIT

from schemas.artifacts import Checkpoint
from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.checkpoints import load
from ssl_tasks.export import embed as module
from ssl_tasks.export.embed import Embedded, embed

Columns = dict[str, NDArray[np.generic]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven pictures of several sizes and modes, in folders; no two alike."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    for i, name in enumerate(("b/2.png", "a/1.png", "a/10.jpg", "top.bmp", "c/d/e.png", "c/grey.png", "z.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (12 + i, 30 - i, 3), np.uint8)
        Image.fromarray(pixels[..., 0] if "grey" in name else pixels).save(path)
    return folder


def columns(path: Path) -> Columns:
    """What is in a file, arrays of any dimensions."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    table = pq.read_table(path)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
@pytest.mark.parametrize("config", [VIT, CONV], ids=["vit", "conv"])
def test_features_are_the_checkpoints_in_the_order_of_the_names(
    tmp_path: Path, photos: Path, config: Encoder, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    source = checkpoint(tmp_path, config)
    assert embed(source, photos, tmp_path / f"new/out{suffix}") == Embedded(7, {})
    found = columns(tmp_path / f"new/out{suffix}")
    assert list(found) == ["name", "features"]
    assert found["name"].tolist() == ["a/1.png", "a/10.jpg", "b/2.png", "c/d/e.png", "c/grey.png", "top.bmp", "z.png"]
    np.testing.assert_allclose(found["features"], load(source.folder).embed([photos / name for name in found["name"]]), atol=1e-5)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_patches_are_one_feature_a_patch_row_by_row(tmp_path: Path, photos: Path, suffix: str) -> None:
    source = checkpoint(tmp_path, VIT, CLASSES)
    embed(source, photos, tmp_path / f"out{suffix}", patches=True)
    found = columns(tmp_path / f"out{suffix}")
    assert found["patches"].shape == (7, 4, 16)
    model = load(source.folder)
    seen = model.encoder.tokens(model._prepared(photos / str(found["name"][2])))
    np.testing.assert_allclose(found["patches"][2], seen.patches[0].detach(), atol=1e-5)


def test_what_gives_no_picture_is_named_with_the_reason_and_left_out(tmp_path: Path, photos: Path) -> None:
    (photos / "a/bad.png").write_bytes(b"\x89PNG and then nothing")
    (photos / "empty.jpg").write_bytes(b"")
    told = embed(checkpoint(tmp_path, VIT), photos, tmp_path / "out.npz")
    assert told == Embedded(7, {"a/bad.png": "unreadable", "empty.jpg": "empty"})
    assert "a/bad.png" not in columns(tmp_path / "out.npz")["name"].tolist()


def test_a_folder_without_a_single_picture_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/empty.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 1 images under .*photos gives a picture: empty"):
        embed(checkpoint(tmp_path, VIT), tmp_path / "photos", tmp_path / "out.parquet")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("folder", "out", "message"),
    [
        ("photos", "out.csv", r"--out .*out\.csv: its name must end in \.parquet or \.npz"),
        ("photos", "out", r"--out .*out: its name must end in \.parquet or \.npz"),
        ("fotos", "out.npz", r"folder of images .*fotos does not exist: correct FOLDER"),
        ("photos/z.png", "out.npz", r"folder of images .*z\.png is a file, not a folder"),
        ("texts", "out.npz", r"no images under .*texts; it holds \.txt files: point FOLDER at"),
        ("photos", "photos/z.png/out.npz", r"cannot write .*out\.npz \(File exists\): make room on its disk, or name another file"),
    ],
    ids=["unknown suffix", "no suffix", "no folder", "a file", "no images", "cannot be written"],
)
def test_a_mistake_is_one_clear_line(tmp_path: Path, folder: str, out: str, message: str) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("a")
    source: Checkpoint = checkpoint(tmp_path, VIT)
    with pytest.raises(UserError, match=message):
        embed(source, tmp_path / folder, tmp_path / out)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "out.npz.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*out\.npz \(No space left on device\)"):
        embed(checkpoint(tmp_path, VIT), photos, tmp_path / "out.npz")
    assert not list(tmp_path.glob("out*"))
