"""Shards: what is made of each image alone is made a few thousand images at a time, each shard kept as soon as it is done.

So a killed curation goes on where it was, and any engine can run the shards: threads of this process unless the caller
brings another `Mapper`, such as Prefect's on a Dask cluster.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ssl_tasks.data.known import Known

LARGEST = 4096


class Work(Protocol):
    """What is made of images: can be pickled, and what it gives for an image depends on nothing but itself and that image."""

    def __call__(self, files: pa.Table, /) -> pa.Table:
        """Values of images; `files` has the columns `uri` and `sha256`, the result `sha256` and the values."""
        ...


@dataclass(frozen=True)
class Shard:
    """Some images of which something is to be made; small to pickle, and run twice it does no harm.

    Attributes:
        files: Parquet file with the columns `uri` and `sha256`.
    """

    work: Work
    files: Path
    known: Known

    def __call__(self) -> None:
        """Make it, and keep it."""
        self.known.add(self.work(pq.read_table(self.files)))


Progress = Callable[[int, int], None]
Mapper = Callable[[Sequence[Shard]], Iterator[None]]
"""Runs all shards, in any order and anywhere that sees the workspace, and yields as each ends. An error in one is raised."""


def threads(shards: Sequence[Shard]) -> Iterator[None]:
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

    Args:
        files: has the columns `uri` and `sha256`.
        progress: told how many shards are done, of how many.
    """
    files = files.select(["uri", "sha256"]).combine_chunks()
    sha256s = files["sha256"].combine_chunks()
    missing = known.missing(sha256s)
    if len(missing):
        todo = files.take(pa.compute.index_in(missing, value_set=sha256s))
        size = min(LARGEST, max(32, -(-len(todo) // (4 * len(os.sched_getaffinity(0))))))
        known.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".todo-", dir=known.folder) as folder:
            shards = []
            for number, start in enumerate(range(0, len(todo), size)):
                path = Path(folder) / f"{number}.parquet"
                pq.write_table(todo.slice(start, size), path)
                shards.append(Shard(work, path, known))
            for done, _ in enumerate(mapper(shards), 1):
                progress(done, len(shards))
    return known.take(sha256s)
