"""Shards: what is made of each image alone is made a few thousand images at a time, each shard kept as soon as it is done.

So a killed curation goes on where it was, and any engine can run the shards: threads of this process unless the caller
brings another `Mapper`, such as Prefect's on a Dask cluster.
"""

import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_tasks.data.known import Known, unwritable

LARGEST = 4096


class Work(Protocol):
    """What is made of images: can be pickled, and what it gives for an image depends on nothing but itself and that image."""

    def __call__(self, files: pa.Table, /) -> pa.Table:
        """Values of images, in their order; `files` has the columns `uri` and `sha256`, the result `sha256` and the values."""
        ...


@dataclass(frozen=True)
class Shard:
    """Some images of which something is to be made; small to pickle, and run twice it does no harm.

    Attributes:
        files: Parquet file with the columns `uri` and `sha256`.
        count: how many images they are.
    """

    work: Work
    files: Path
    known: Known
    count: int

    def __call__(self) -> None:
        """Make it, and keep it."""
        self.known.add(self.work(pq.read_table(self.files, partitioning=None)))


Progress = Callable[[int, int], None]
Mapper = Callable[[Sequence[Shard]], Generator[None, None, None]]
"""Runs all shards, in any order and anywhere that sees the workspace, and yields as each ends. An error in one is raised.
Closed early, it begins no other."""


def threads(shards: Sequence[Shard]) -> Generator[None, None, None]:
    """Run the shards on threads of this process, one a core."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "shard") as pool:
        futures = [pool.submit(shard) for shard in shards]
        try:
            for done in as_completed(futures):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def of_each(files: pa.Table, work: Work, known: Known, mapper: Mapper, progress: Progress) -> pa.Table:
    """What `work` makes of each image, in the order of `files`; what is known already is not made again.

    An image without a sha256, which could not be read when it was listed, is asked for each time.

    Args:
        files: has the columns `uri` and `sha256`.
        progress: told how many shards are done, of how many.
    """
    files = make_known(files, work, known, mapper, progress)
    sha256s = files["sha256"].combine_chunks()
    unread = sha256s.to_numpy(zero_copy_only=False) == ""
    if not unread.any():
        return known.take(sha256s)
    made = pa.concat_tables([known.take(sha256s.filter(pa.array(~unread))), work(files.filter(pa.array(unread))).cast(known.schema)])
    return made.take(pa.array(np.argsort(np.argsort(unread, kind="stable"))))


def make_known(files: pa.Table, work: Work, known: Known, mapper: Mapper, progress: Progress) -> pa.Table:
    """Make what is not known yet of images, shard by shard. Returns the columns `uri` and `sha256` alone.

    Raises:
        UserError: where the disk is full; see also `work`.
    """
    files = files.select(["uri", "sha256"]).combine_chunks()
    sha256s = files["sha256"].combine_chunks()
    missing = known.missing(sha256s)
    if not len(missing):
        return files
    todo = files.take(pc.index_in(missing, value_set=sha256s))
    size = min(LARGEST, max(32, -(-len(todo) // (4 * len(os.sched_getaffinity(0))))))
    with _folder(known) as folder:
        shards = [_shard(todo.slice(start, size), work, folder / f"{start}.parquet", known) for start in range(0, len(todo), size)]
        with closing(mapper(shards)) as running:
            for done, _ in enumerate(running, 1):
                progress(done, len(shards))
    known.compact()
    return files


@contextmanager
def _folder(known: Known) -> Iterator[Path]:
    """Of what there is to do, beside what is known: whoever sees the one sees the other."""
    try:
        known.folder.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".todo-", dir=known.folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise unwritable(known.folder, 0, error) from error
    with folder:
        yield Path(folder.name)


def _shard(files: pa.Table, work: Work, path: Path, known: Known) -> Shard:
    try:
        pq.write_table(files, path)
    except OSError as error:
        raise unwritable(known.folder, files.nbytes, error) from error
    return Shard(work, path, known, len(files))
