"""What is known of images: kept whole or not at all, read by many, put together when there is much of it."""

import hashlib
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import UserError
from ssl_tasks.data import known as module
from ssl_tasks.data.known import MANY, Known

SCHEMA = pa.schema([pa.field("value", pa.int64())])


def hashes(numbers: range | list[int]) -> pa.Array:
    return pa.array([hashlib.sha256(str(number).encode()).hexdigest() for number in numbers])


def rows(numbers: range | list[int], offset: int = 0) -> pa.Table:
    return pa.table({"sha256": hashes(numbers), "value": [number + offset for number in numbers]})


def values(known: Known, numbers: range | list[int]) -> list[int]:
    return list(known.take(hashes(numbers))["value"].to_pylist())


@pytest.fixture
def known(tmp_path: Path) -> Known:
    return Known(tmp_path / "known", SCHEMA)


def test_rows_come_back_in_the_order_asked_for_as_often_as_asked_for(known: Known) -> None:
    known.add(rows(range(5)))
    known.add(rows(range(5, 9)))
    assert values(known, [8, 0, 3, 0, 5]) == [8, 0, 3, 0, 5]
    assert values(known, []) == []


def test_what_is_missing_is_named_once_in_the_order_asked_for(known: Known) -> None:
    known.add(rows([1, 2]))
    assert known.missing(hashes([4, 1, 3, 4])).to_pylist() == hashes([4, 3]).to_pylist()
    with pytest.raises(KeyError, match="2 images are unknown"):
        known.take(hashes([4, 1, 3]))


def test_an_image_without_a_hash_is_never_kept_nor_missing(known: Known) -> None:
    known.add(pa.table({"sha256": [""], "value": [1]}))
    assert not known.folder.exists()
    known.add(pa.concat_tables([pa.table({"sha256": [""], "value": [1]}), rows([7])]))
    assert pq.read_table(known.folder)["value"].to_pylist() == [7]
    assert known.missing(pa.array(["", *hashes([8]).to_pylist()])).to_pylist() == hashes([8]).to_pylist()


def test_images_in_a_file_that_was_cut_short_are_unknown_and_can_be_made_again(known: Known) -> None:
    known.add(rows(range(3)))
    known.add(rows(range(3, 6)))
    (cut,) = [path for path in known.folder.glob("*.parquet") if 4 in pq.read_table(path)["value"].to_pylist()]
    cut.write_bytes(cut.read_bytes()[:-10])
    assert known.missing(hashes(range(6))).to_pylist() == hashes(range(3, 6)).to_pylist()
    known.add(rows(range(3, 6)))
    assert values(known, range(6)) == list(range(6))


def test_a_flipped_bit_is_seen_and_said_in_one_line(known: Known) -> None:
    known.add(rows(range(1000)))
    (path,) = known.folder.glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[data.index(np.arange(1000, dtype=np.int64).tobytes()) + 4000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"\.parquet is damaged .*: remove it and run again$"):
        values(known, range(1000))


def test_many_small_files_become_few_and_say_the_same(known: Known) -> None:
    for start in range(0, 5 * (MANY + 2), 5):
        known.add(rows(range(start, start + 7)))  # two of each are in the next file too
    (known.folder / "0000damaged.parquet").write_bytes(b"PAR1 and no more")
    known.compact()
    assert len(list(known.folder.glob("*.parquet"))) == 2
    assert len(list(known.folder.glob(".draft-*"))) == 0
    assert values(known, range(5 * (MANY + 2))) == list(range(5 * (MANY + 2)))


def test_few_files_and_large_files_are_left_as_they_are(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 10)
    for start in range(0, 10 * (MANY + 2), 10):
        known.add(rows(range(start, start + 10)))
    before = sorted(known.folder.iterdir())
    known.compact()
    assert sorted(known.folder.glob("*.parquet")) == before


def write_and_compact(folder: Path, first: int) -> None:
    own = Known(folder, SCHEMA)
    for start in range(first, first + 400, 10):
        own.add(rows(range(start, start + 20)))
        own.compact()


def test_processes_that_add_compact_and_read_at_a_time_do_not_harm_each_other(known: Known) -> None:
    known.add(rows(range(20)))
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_and_compact, args=(known.folder, first)) for first in (0, 200, 400)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        assert values(known, range(20)) == list(range(20))
        reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert reads > 3
    assert values(known, range(810)) == list(range(810))


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from schemas.errors import UserError
from ssl_tasks.data.known import Known
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
known = Known(Path(sys.argv[1]), pa.schema([pa.field("value", pa.float64())]))
try:
    known.add(pa.table({"sha256": [f"{i:064d}" for i in range(5000)], "value": np.zeros(5000)}))
except UserError as error:
    print(error)
"""


def test_where_no_more_can_be_written_one_line_says_so_and_nothing_half_written_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path / "known")], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write 0.4 MB to {tmp_path / 'known'} (")
    assert done.stdout.endswith("free space there, and run again; what is done is kept\n")
    assert list((tmp_path / "known").iterdir()) == []
