"""The loader: every step's images follow from seed and step, whether they lie in the store or are decoded as they are taken."""

import threading
import tracemalloc
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from small_sources import listed
from tiny_training import ranks

from schemas.errors import UserError
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.files import Files, open_images
from ssl_tasks.data.loader import AHEAD, Batches
from ssl_tasks.data.store import open_store
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import rank

CPU = torch.device("cpu")
KINDS = [("jpg", "RGB"), ("png", "L"), ("webp", "RGB"), ("bmp", "RGB"), ("jpg", "CMYK"), ("png", "RGBA")]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """24 images of several formats, modes and sizes."""
    (tmp_path / "pool").mkdir()
    random = np.random.default_rng(0)
    for i in range(24):
        suffix, mode = KINDS[i % len(KINDS)]
        noise = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8)).resize((40 + i, 30 + 2 * i)).convert(mode)
        noise.save(tmp_path / f"pool/{i:02d}.{suffix}")
    return tmp_path


@pytest.fixture
def table(workspace: Path) -> pa.Table:
    return listed(workspace)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_from_files_are_those_of_the_store_bit_for_bit(workspace: Path, table: pa.Table, channels: int) -> None:
    store = open_store(table, workspace, 16, channels, workspace / "cache")
    files = Files(table, workspace, 16, channels)
    assert (len(files), files.shape) == (24, store.shape)
    rows = np.array([3, 0, 17, 17, 23])
    assert np.array_equal(files[rows], store[rows])
    assert np.array_equal(files[:], store)


def test_a_training_sees_the_same_batches_from_files_as_from_the_store(workspace: Path, table: pa.Table) -> None:
    images = open_store(table, workspace, 16, 3, workspace / "cache"), Files(table, workspace, 16, 3)
    stored, decoded = (dict(Batches(each, 5, 7, CPU)(3, 14, ahead=True)) for each in images)
    assert list(stored) == list(decoded) == list(range(3, 14))
    assert all(torch.equal(stored[step], decoded[step]) for step in stored)


def test_a_set_beyond_the_budget_is_not_stored_unless_it_is_already(workspace: Path, table: pa.Table) -> None:
    needed = 24 * 3 * 16 * 16 / 1e9
    assert isinstance(open_images(table, workspace, 16, 3, workspace / "cache", 0.99 * needed), Files)
    assert not (workspace / "cache").exists()
    assert isinstance(open_images(table, workspace, 16, 3, workspace / "cache", needed), np.memmap)
    assert isinstance(open_images(table, workspace, 16, 3, workspace / "cache", 0.0), np.memmap)


def test_batches_are_read_ahead_but_only_a_few(workspace: Path, table: pa.Table) -> None:
    taken: list[int] = []
    enough = threading.Event()

    class Counting(Files):
        def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
            taken.append(1)
            if len(taken) > AHEAD:
                enough.set()
            return super().__getitem__(rows)

    batches = Batches(Counting(table, workspace, 16, 3), 2, 0, CPU)(0, 12, ahead=True)
    next(batches)
    assert enough.wait(10)
    assert not threading.Event().wait(0.2)
    assert len(taken) == AHEAD + 1
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


def test_memory_is_that_of_a_few_batches_however_many_images_there_are(workspace: Path, table: pa.Table) -> None:
    many = pa.concat_tables([table] * 100)
    batch = 4 * 3 * 64 * 64
    batches = Batches(Files(many, workspace, 64, 3), 4, 0, CPU)(0, 60, ahead=True)
    next(batches)
    tracemalloc.start()
    for _ in islice(batches, 50):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * batch < len(many) * 3 * 64 * 64 / 20


def test_an_image_that_cannot_be_decoded_is_told_at_its_step(workspace: Path, table: pa.Table) -> None:
    (workspace / "pool/00.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"pool/00.jpg has changed since it was listed"):
        list(Batches(Files(table, workspace, 16, 3), 6, 0, CPU)(0, 4, ahead=True))


def test_an_epoch_shows_every_image_once_and_each_epoch_in_another_order() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    epochs = [[batch.flatten().tolist() for _, batch in Batches(images, 5, 0, CPU)(4 * epoch, 4 * epoch + 4, ahead=True)] for epoch in range(3)]
    assert all(sorted(chain.from_iterable(epoch)) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_follows_from_seed_and_step_wherever_the_training_began() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    whole = dict(Batches(images, 6, 3, CPU)(0, 9, ahead=False))
    resumed = dict(Batches(images, 6, 3, CPU)(5, 9, ahead=True))
    assert all(torch.equal(resumed[step], whole[step]) for step in range(5, 9))
    other = dict(Batches(images, 6, 4, CPU)(0, 9, ahead=False))
    assert any(not torch.equal(other[step], whole[step]) for step in whole)


def shares(folder: Path) -> None:
    """What one of two processes reads and sees of three steps, decoding from files."""
    batches = Batches(Files(listed(folder), folder, 16, 3), 6, 0, CPU)
    seen = []
    for step, batch in batches(0, 3, ahead=True):
        draw = Draw(torch.Generator().manual_seed(step), batches.size, batches.own)
        seen.append([batch, *augment(Views(preset="byol"), batch, 12, draw)])
    torch.save(seen, folder / f"rank{rank()}.pt")


def test_two_ranks_read_and_see_together_what_one_process_does(workspace: Path) -> None:
    ranks(2, shares, workspace)
    first, second = (torch.load(workspace / f"rank{number}.pt") for number in (0, 1))
    shares(workspace)
    alone = torch.load(workspace / "rank0.pt")
    for whole, *halves in zip(chain.from_iterable(alone), chain.from_iterable(first), chain.from_iterable(second), strict=True):
        assert len(whole) == 6
        assert_allclose(torch.cat(halves), whole, atol=1e-5)
