"""What is known of images by the sha256 of their files: each value is made once, whatever pool the image comes back in."""

import errno
import fcntl
import hashlib
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.errors import UserError

MANY: Final = 32
"""Small files from which on they are put together."""
LARGE: Final = 16_384
"""Rows of a file that is left as it is."""
_STALE: Final = 30 * 24 * 3600.0


class Known:
    """Rows of values by sha256 in a folder of Parquet files that are written once, and only ever put together.

    Several processes may read, add and compact at a time. A file that was cut short is left out, and its images are unknown
    again. An image without a sha256, which could not be read when it was listed, is never known.

    Args:
        folder: of what made the values: its name must stand for everything that they depend on besides the image.
        schema: of the values, without the column `sha256`.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, pa.schema([pa.field("sha256", pa.string(), nullable=False), *schema])

    def missing(self, sha256s: pa.Array) -> pa.Array:
        """Those of which nothing is known, each once, in their order."""
        asked = pc.unique(sha256s)
        asked = asked.filter(pc.not_equal(asked, ""))
        return asked.filter(pc.invert(pc.is_in(asked, value_set=_joined([hashes for _, hashes in self._parts()]))))

    def add(self, table: pa.Table) -> None:
        """Keep rows; the file is there whole or not at all.

        Raises:
            UserError: where it cannot be written.
        """
        table = table.filter(pc.not_equal(table["sha256"], "")).cast(self.schema)
        if len(table):
            self._write(table)

    def take(self, sha256s: pa.Array) -> pa.Table:
        """The rows of these images, in their order. Raises KeyError where one is unknown."""
        rows, tables = [np.empty(0, np.int64)], [self.schema.empty_table()]
        for where, table in self.pieces(sha256s):
            rows.append(where)
            tables.append(table)
        order = np.argsort(np.concatenate(rows), kind="stable")
        return pa.concat_tables(tables).take(pa.array(order)).combine_chunks()

    def pieces(self, sha256s: pa.Array) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """The rows of these images file by file, for what is too large to be held twice.

        Yields:
            Places in `sha256s`, (n,), and their rows.

        Raises:
            KeyError: where one is unknown.
            UserError: where a file cannot be read.
        """
        left = np.arange(len(sha256s))
        while len(left):
            parts = self._parts()
            found = pc.index_in(sha256s.take(pa.array(left)), value_set=_joined([hashes for _, hashes in parts]))
            if found.null_count:
                raise KeyError(f"{found.null_count} images are unknown in {self.folder}")
            at = found.to_numpy().astype(np.int64)
            order = np.argsort(at, kind="stable")
            starts = np.cumsum([0, *(len(hashes) for _, hashes in parts)])
            bounds = np.searchsorted(at[order], starts)
            vanished = [np.empty(0, np.int64)]
            for (path, _), start, (low, high) in zip(parts, starts, pairwise(bounds), strict=False):
                if (rows := order[low:high]).size:
                    try:
                        table = _read(path, self.schema.names)
                    except FileNotFoundError:  # another process has just put it together with others
                        vanished.append(left[rows])
                        continue
                    except (OSError, pa.ArrowException) as error:
                        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): remove it and run again") from error
                    yield left[rows], table.take(pa.array(at[rows] - start))
            left = np.concatenate(vanished)

    def compact(self) -> None:
        """Put many small files together, unless another process is at it, and remove what killed processes left a month ago.

        On a full disk they stay as they are.
        """
        if len(list(self.folder.glob("*.parquet"))) <= MANY:
            return
        with (self.folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            self._sweep()
            small = [(path, hashes) for path, hashes in self._parts() if len(hashes) < LARGE]
            if len(small) > MANY:
                with suppress(UserError):
                    for some in _groups(small):
                        self._merge(some)

    def _merge(self, paths: list[Path]) -> None:
        """What is in several files in one: there before they go, so that a kill at any moment loses nothing."""
        tables = []
        for path in paths:
            with suppress(OSError, pa.ArrowException):
                tables.append((path, _read(path, self.schema.names)))
        if len(tables) > 1:
            whole = pa.concat_tables([table for _, table in tables]).combine_chunks()
            new = self._write(whole.take(_firsts(whole["sha256"].combine_chunks())))
            for path, _ in tables:
                if path != new:
                    path.unlink(missing_ok=True)

    def _write(self, table: pa.Table) -> Path:
        path = self.folder / f"{hashlib.sha256(''.join(table['sha256'].to_pylist()).encode()).hexdigest()[:24]}.parquet"
        draft = self.folder / f".draft-{uuid.uuid4().hex}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                pq.write_table(table, draft, compression="none", use_dictionary=False, write_page_checksum=True)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.folder, table.nbytes, error) from error
        return path

    def _parts(self) -> list[tuple[Path, pa.Array]]:
        """Each file that is whole, and of which images it is."""
        while True:
            parts = []
            try:
                for path in sorted(self.folder.glob("*.parquet")):
                    with suppress(pa.ArrowException, IsADirectoryError):  # cut short: its images are unknown
                        parts.append((path, _read(path, ["sha256"])["sha256"].combine_chunks()))
            except FileNotFoundError:  # put together with others meanwhile
                continue
            except OSError as error:
                raise UserError(f"cannot read {path} ({error.strerror or error}): make it readable, or remove it") from error
            return parts

    def _sweep(self) -> None:
        for left in (*self.folder.glob(".draft-*"), *self.folder.glob(".todo-*")):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def unwritable(folder: Path, size: int, error: OSError) -> UserError:
    """What to tell a user whose disk does not take so many bytes."""
    why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return UserError(f"cannot write {size / 1e6:,.1f} MB to {folder} ({why}): free space there, and run again; what is done is kept")


def _read(path: Path, columns: list[str]) -> pa.Table:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=columns)


def _joined(hashes: list[pa.Array]) -> pa.Array:
    return pa.concat_arrays(hashes) if hashes else pa.array([], pa.string())


def _firsts(sha256s: pa.Array) -> pa.Array:
    """Rows of each image's first mention."""
    return pc.index_in(pc.unique(sha256s), value_set=sha256s)


def _groups(parts: list[tuple[Path, pa.Array]]) -> Iterator[list[Path]]:
    """Files put together until they are large."""
    group: list[Path] = []
    rows = 0
    for path, hashes in parts:
        group.append(path)
        rows += len(hashes)
        if rows >= LARGE:
            yield group
            group, rows = [], 0
    yield group
