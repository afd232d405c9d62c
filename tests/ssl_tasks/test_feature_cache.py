"""Features are made once: by what they are named, what a second evaluation does, and what happens to files that are cut, old or too many."""

import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peak_memory import at_most
from small_world import SmallWorld

from schemas.errors import UserError
from ssl_tasks.evaluate import features
from ssl_tasks.evaluate.features import kept
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features as encoded

Features = NDArray[np.float32]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("features"))


@pytest.fixture
def world(models: SmallWorld) -> SmallWorld:
    """With nothing kept yet."""
    shutil.rmtree(models.subject("vit").world.job.cache / "features", ignore_errors=True)
    return models


@pytest.fixture
def images_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward saw."""
    seen: list[int] = []
    forward = TimmEncoder.forward

    def counted(self: TimmEncoder, images: Any) -> Any:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(TimmEncoder, "forward", counted)
    return seen


def ones(rows: Features) -> None:
    rows[:] = 1


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "features").iterdir())


def test_the_second_evaluation_of_a_model_makes_no_forward(world: SmallWorld, images_seen: list[int]) -> None:
    first = np.array(world.subject("vit").features)
    assert sum(images_seen) == 60
    images_seen.clear()
    again = world.subject("vit")
    np.testing.assert_array_equal(again.features, first)
    assert images_seen == []


def test_with_and_without_the_cache_features_are_the_same(world: SmallWorld) -> None:
    subject = world.subject("convnet")
    assert subject.artifact
    plain = encoded(subject.encoder, subject.images, subject.artifact.mean, subject.artifact.std)
    np.testing.assert_array_equal(subject.features, plain)


def test_other_weights_images_or_seeds_are_other_files(world: SmallWorld, images_seen: list[int]) -> None:
    names = []
    for name, fields in (("vit", {}), ("classifier", {}), ("random", {}), ("random", {"seed": 8}), ("vit", {"dataset": "other"})):
        assert len(world.subject(name, **fields).features)
        names.append(set(files(world.subject(name).world.job.cache)))
    assert [len(found) for found in names] == [1, 2, 3, 4, 5]
    assert sum(images_seen) == 4 * 60 + 40


def test_altered_weights_are_embedded_anew(world: SmallWorld, images_seen: list[int]) -> None:
    before = world.subject("vit")
    assert len(before.features)
    altered = world.subject("vit")
    assert altered.artifact
    altered.artifact = altered.artifact.model_copy(update={"files": dict.fromkeys(altered.artifact.files, "0" * 64)})
    altered.encoder = before.encoder
    assert len(altered.features)
    assert sum(images_seen) == 120


def test_a_file_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    kept(tmp_path, {}, (5, 3), ones, 1.0)
    (path,) = (tmp_path / "features").iterdir()
    for left in (0, 20, 140):
        path.write_bytes(path.read_bytes()[:left])
        assert (kept(tmp_path, {}, (5, 3), ones, 1.0) == 1).all()
    assert kept(tmp_path, {}, (5, 3), lambda _: pytest.fail("it is kept"), 1.0).shape == (5, 3)


def test_what_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    def broken(rows: Features) -> None:
        rows[0] = 1
        raise OSError("an image went away")

    with pytest.raises(OSError, match="an image went away"):
        kept(tmp_path, {}, (5, 3), broken, 1.0)
    assert files(tmp_path) == []


def test_features_are_read_only(tmp_path: Path) -> None:
    for _ in range(2):
        found = kept(tmp_path, {}, (5, 3), ones, 1.0)
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 2


def test_another_process_that_makes_the_same_features_meanwhile_does_not_mix_them(tmp_path: Path) -> None:
    """Each writes a draft of its own; what one of them has in hand stays whole when the other replaces or removes the file."""

    def counting(rows: Features) -> None:
        rows[:] = np.arange(len(rows))[:, None]

    def interrupted(rows: Features) -> None:
        rows[:3] = np.arange(3)[:, None]
        others.append(kept(tmp_path, {}, (5, 3), counting, 1.0))
        rows[3:] = np.arange(3, 5)[:, None]

    others: list[Features] = []
    found = kept(tmp_path, {}, (5, 3), interrupted, 1.0)
    (path,) = (tmp_path / "features").iterdir()
    path.unlink()
    for each in (found, *others):
        assert each[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_full_disk_is_a_line_before_any_image_is_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot write 2\.0 MB of features to .*features \(No space left on device\): free space there"):
        kept(tmp_path, {}, (5000, 100), lambda _: pytest.fail("nothing is embedded"), 1.0)
    assert files(tmp_path) == []


def test_room_is_taken_on_the_disk_before_rows_are_written(tmp_path: Path) -> None:
    """A page of a mapped file that finds no room kills the process: nothing could say why."""

    def looked_at(rows: Features) -> None:
        (draft,) = (tmp_path / "features").iterdir()
        assert draft.stat().st_blocks * 512 >= rows.nbytes
        rows[:] = 0

    kept(tmp_path, {}, (5000, 100), looked_at, 1.0)


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    made = []
    for number in range(4):
        kept(tmp_path, {"model": number}, (1000, 100), ones, 1.0)
        (new,) = set(files(tmp_path)) - set(made)
        made.append(new)
        os.utime(tmp_path / "features" / new, (number, number))
    kept(tmp_path, {"model": 0}, (1000, 100), lambda _: pytest.fail("it is kept"), 1.0)  # used: now it is the newest
    kept(tmp_path, {"model": 4}, (1000, 100), ones, 0.0013)  # room for three
    assert set(made) & set(files(tmp_path)) == {made[0], made[3]}
    kept(tmp_path, {"model": 5}, (1000, 100), ones, 0.0)  # none but this, without which nothing could be judged
    assert len(files(tmp_path)) == 1


def test_drafts_of_killed_processes_go_and_those_of_running_ones_stay(tmp_path: Path) -> None:
    kept(tmp_path, {"model": 0}, (5, 3), ones, 1.0)
    left, running = tmp_path / "features/.left.npy", tmp_path / "features/.running.npy"
    for draft, age in ((left, features._LEFT + 60), (running, 60)):
        draft.write_bytes(b"")
        os.utime(draft, (time.time() - age,) * 2)
    kept(tmp_path, {"model": 1}, (5, 3), ones, 1.0)
    assert (left.exists(), running.exists()) == (False, True)


def test_features_larger_than_memory_are_made_and_looked_through(tmp_path: Path) -> None:
    def make(rows: Features) -> None:
        for start in range(0, len(rows), 1000):
            rows[start : start + 1000] = start

    with at_most(megabytes=60), pytest.raises(MemoryError):
        np.ones((600_000, 100), np.float32)
    with at_most(megabytes=60):
        found = kept(tmp_path, {}, (600_000, 100), make, 1.0)
        assert features.unfit(found) == ""
    assert found[199_000, 0] == 199_000
