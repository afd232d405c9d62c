"""The store: decoded once, in order, whole or not at all."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sources import listed

from schemas.errors import UserError
from ssl_tasks.data import manifest
from ssl_tasks.data.store import centre_square, open_store, side_for, squares

BUILD = """
import resource, sys
from pathlib import Path
from schemas.errors import UserError
from ssl_tasks.data.store import open_store
import pyarrow.parquet as pq
workspace, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    print(int(open_store(pq.read_table(workspace / "manifest.parquet"), workspace, 16, 3, workspace / "cache").sum()))
except UserError as error:
    print(error)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "pool").mkdir()
    random = np.random.default_rng(0)
    for i, (height, width) in enumerate([(16, 16), (16, 24), (40, 20), (64, 32)]):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / f"pool/{i}.png")
    return tmp_path


def test_the_side_is_that_of_evaluation_but_no_larger_than_any_image_needs(workspace: Path) -> None:
    table = listed(workspace)
    assert side_for(table, 16) == 18
    assert side_for(table, 28) == 32
    assert side_for(table, 224) == 32
    assert side_for(manifest.replace(table, width=[None] * 4), 224) == 256


def test_images_lie_in_table_order_and_those_of_the_right_side_are_unchanged(workspace: Path) -> None:
    table = listed(workspace)
    store = open_store(table, workspace, 16, 3, workspace / "cache")
    assert isinstance(store, np.memmap)
    assert (store.shape, store.dtype, store.flags.writeable) == ((4, 3, 16, 16), np.uint8, False)
    exact = [np.asarray(Image.open(workspace / f"pool/{i}.png")) for i in range(2)]
    assert np.array_equal(store[0], exact[0].transpose(2, 0, 1))
    assert np.array_equal(store[1], exact[1][:, 4:20].transpose(2, 0, 1))
    subset = open_store(table.take([3, 0]), workspace, 16, 3, workspace / "cache")
    assert np.array_equal(subset, store[[3, 0]])


def test_larger_images_are_shrunk_by_averaging_not_by_picking() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(centre_square(Image.fromarray(stripes), 16))
    assert np.abs(small[:, 1:-1].astype(int) - 128).max() <= 1
    wide = np.zeros((32, 64), np.uint8)
    wide[:, 16:48] = 200
    resized_whole = np.asarray(Image.fromarray(wide).resize((16, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(np.asarray(centre_square(Image.fromarray(wide), 8)), resized_whole[:, 4:12])


def test_one_channel_is_grey(workspace: Path) -> None:
    store = open_store(listed(workspace), workspace, 16, 1, workspace / "cache")
    assert store.shape == (4, 1, 16, 16)
    assert np.array_equal(store[0, 0], np.asarray(Image.open(workspace / "pool/0.png").convert("L")))


def test_a_store_is_read_again_without_the_images_and_a_cut_short_one_is_made_again(workspace: Path) -> None:
    table = listed(workspace)
    first = np.array(open_store(table, workspace, 16, 3, workspace / "cache"))
    (path,) = (workspace / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert np.array_equal(open_store(table, workspace, 16, 3, workspace / "cache"), first)
    for image in (workspace / "pool").iterdir():
        image.unlink()
    assert np.array_equal(open_store(table, workspace, 16, 3, workspace / "cache"), first)


def test_two_processes_that_build_the_same_store_are_both_right(workspace: Path) -> None:
    table = listed(workspace)
    manifest.write(table, workspace)
    command = [sys.executable, "-c", BUILD, str(workspace), "0"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [process.communicate(timeout=60)[0].strip() for process in both]
    assert sums == [str(int(open_store(table, workspace, 16, 3, workspace / "cache").sum()))] * 2
    assert [p.suffix for p in (workspace / "cache").iterdir()] == [".npy"]


def test_a_full_disk_is_a_user_error_and_leaves_nothing_that_looks_whole(workspace: Path) -> None:
    manifest.write(listed(workspace), workspace)
    command = [sys.executable, "-c", BUILD, str(workspace), "1000"]  # the kernel refuses to write a byte more to any file
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("cannot write 0.0 MB of decoded images to")
    assert "free space there" in said
    assert list((workspace / "cache").glob("*.npy")) == []
    assert sum(p.stat().st_size for p in (workspace / "cache").iterdir()) == 0
    assert open_store(listed(workspace), workspace, 16, 3, workspace / "cache").shape == (4, 3, 16, 16)


def test_an_image_that_cannot_be_decoded_is_a_user_error_that_advises_integrity(workspace: Path) -> None:
    (workspace / "pool/broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"pool/broken.jpg cannot be decoded \(wrong type\): .*`integrity`"):
        open_store(listed(workspace), workspace, 16, 3, workspace / "cache")


def test_an_image_that_was_changed_or_removed_since_is_a_user_error_that_names_it(workspace: Path) -> None:
    table = listed(workspace)
    Image.new("L", (16, 16)).save(workspace / "pool/1.png")
    with pytest.raises(UserError, match=r"pool/1.png has changed since it was listed"):
        open_store(table, workspace, 16, 3, workspace / "cache")
    (workspace / "pool/1.png").unlink()
    with pytest.raises(UserError, match=r"cannot read image .*pool/1.png"):
        open_store(table, workspace, 16, 3, workspace / "cache")


def test_images_of_any_number_of_channels_lie_in_numpy_files(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    bands = np.random.default_rng(0).integers(0, 256, (16, 24, 5), np.uint8)
    np.save(tmp_path / "pool/exact.npy", bands)
    np.save(tmp_path / "pool/larger.npy", np.repeat(np.repeat(bands, 2, 0), 2, 1))
    table = listed(tmp_path)
    assert table["mode"].to_pylist() == ["5 bands"] * 2
    assert table["width"].to_pylist() == [24, 48]
    store = open_store(table, tmp_path, 16, 5, tmp_path / "cache")
    assert np.array_equal(store[0], bands[:, 4:20].transpose(2, 0, 1))
    bilinear = Image.fromarray(bands.repeat(2, 0).repeat(2, 1)[..., 3]).resize((16, 16), Image.Resampling.BILINEAR, box=(8, 0, 40, 32))
    assert np.array_equal(store[1, 3], np.asarray(bilinear))
    (picture, _) = squares(table, tmp_path, 16, 3)
    assert np.array_equal(picture, np.broadcast_to(bands[:, 4:20].mean(2).round(), (3, 16, 16)))


def test_images_of_other_channels_than_the_encoders_are_a_user_error_that_names_one(tmp_path: Path, workspace: Path) -> None:
    np.save(tmp_path / "pool/9.npy", np.zeros((16, 16, 4), np.uint8))
    table = listed(workspace)
    with pytest.raises(UserError, match=r"pool/9.npy has 4 channels, but encoder.channels is 3: make them the same"):
        open_store(table, workspace, 16, 3, workspace / "cache")
    with pytest.raises(UserError, match=r"pool/0.png has 3 channels, but encoder.channels is 4"):
        open_store(table, workspace, 16, 4, workspace / "cache")
