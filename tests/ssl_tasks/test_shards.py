"""Shards: each image once, each shard kept as soon as it is done, whatever runs them."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from test_known import SCHEMA, hashes

from schemas.errors import UserError
from ssl_tasks.curate import shards
from ssl_tasks.curate.shards import Shard, make_known, of_each, threads
from ssl_tasks.data.known import Known


@dataclass(frozen=True)
class Number:
    """The number in an image's name; `broken` cannot be read."""

    broken: str = ""
    seen: list[str] = field(default_factory=list)

    def __call__(self, files: pa.Table) -> pa.Table:
        uris = files["uri"].to_pylist()
        if self.broken in uris:
            raise UserError(f"image {self.broken} cannot be decoded")
        self.seen.extend(uris)
        return pa.table({"sha256": files["sha256"], "value": [int(uri) for uri in uris]})


def files(numbers: Sequence[int]) -> pa.Table:
    return pa.table({"uri": [str(number) for number in numbers], "sha256": hashes(list(numbers)), "other": [0.0] * len(numbers)})


def quiet(_done: int, _of: int) -> None:
    pass


@pytest.fixture
def known(tmp_path: Path) -> Known:
    return Known(tmp_path / "known", SCHEMA)


def made(known: Known, work: Number, numbers: Sequence[int], mapper: shards.Mapper = threads) -> list[int]:
    return list(of_each(files(numbers), work, known, mapper, quiet)["value"].to_pylist())


def test_each_image_is_made_once_however_often_it_is_listed(known: Known) -> None:
    work = Number()
    assert made(known, work, [3, 1, 3, 2]) == [3, 1, 3, 2]
    assert sorted(work.seen) == ["1", "2", "3"]
    assert made(known, work, [5, 3]) == [5, 3]
    assert sorted(work.seen) == ["1", "2", "3", "5"]


def test_progress_tells_how_many_shards_are_done_of_how_many(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LARGEST", 32)
    told: list[tuple[int, int]] = []
    of_each(files(range(100)), Number(), known, threads, lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_other_shards_made_before_an_error_is_kept(known: Known) -> None:
    def one_by_one(some: Sequence[Shard]) -> Iterator[None]:
        for shard in some:
            yield shard()

    work = Number(broken="90")
    with pytest.raises(UserError, match="image 90 cannot be decoded"):
        made(known, work, range(100), one_by_one)
    assert sorted(map(int, work.seen)) == list(range(64))
    assert list(known.folder.glob(".todo-*")) == []
    mended = Number()
    assert made(known, mended, range(100)) == list(range(100))
    assert sorted(map(int, mended.seen)) == list(range(64, 100))


def test_an_error_on_a_thread_comes_out_as_it_is(known: Known) -> None:
    with pytest.raises(UserError, match="image 90 cannot be decoded"):
        made(known, Number(broken="90"), range(100))


def test_images_that_could_not_be_read_when_listed_are_asked_for_each_time_and_keep_their_places(known: Known) -> None:
    table = files([4, 5, 6, 7]).set_column(1, "sha256", pa.array(["", *hashes([5]).to_pylist(), "", *hashes([7]).to_pylist()]))
    for _ in range(2):
        work = Number()
        assert of_each(table, work, known, threads, quiet)["value"].to_pylist() == [4, 5, 6, 7]
        assert {"4", "6"} <= set(work.seen)
    assert sorted(work.seen) == ["4", "6"]


def test_threads_run_shards_side_by_side(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    meet = threading.Barrier(2, timeout=20)

    @dataclass(frozen=True)
    class Meeting:
        def __call__(self, some: pa.Table) -> pa.Table:
            meet.wait()
            return Number()(some)

    make_known(files(range(64)), Meeting(), known, threads, quiet)
    assert len(known.missing(hashes(range(64)))) == 0
