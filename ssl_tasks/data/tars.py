"""Tar shards read at random: where each member's bytes lie, by its name.

A shard is data, not a set of instructions: nothing is ever unpacked, links and devices are never followed, and names that would
point out of the archive are refused.
"""

import errno
import os
import tarfile
from bisect import bisect_left
from collections import Counter
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.data.folder import COMPRESSED_TARS

NOT_A_FILE = -1
"""Offset of a member without bytes of its own: a link, a device, a pipe."""
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")
_lock = Lock()


class Members(NamedTuple):
    """The files in a shard, in its order.

    Attributes:
        names: percent-encoded.
        offsets, sizes: in bytes, (N,), int64.
        order: rows by their names, (N,), int64.
    """

    names: pa.StringArray
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    order: NDArray[np.int64]


def members(path: Path) -> Members:
    """The files in a shard.

    Folders are left out, and so is what is hidden, such as the `._x` that macOS puts beside each file. A last member that is cut
    short is listed with the size that it should have.

    Raises:
        UserError: where the shard is no tar, compressed, damaged, or holds a name twice or one that points out of it.
        OSError: where it cannot be opened.
    """
    stat = path.stat()
    with _lock:
        return _members(path, stat.st_size, stat.st_mtime_ns)


def read(path: Path, name: str) -> bytes:
    """The bytes of a member.

    Args:
        name: as `members` lists it.

    Raises:
        OSError: where there is none of this name, or it is no file.
        UserError: see `members`.
    """
    names, offsets, sizes, order = members(path)
    place = bisect_left(order, name, key=lambda row: names[int(row)].as_py())
    row = int(order[place]) if place < len(order) else -1
    if row < 0 or names[row].as_py() != name:
        raise FileNotFoundError(errno.ENOENT, "the shard has no such member")
    if offsets[row] == NOT_A_FILE:
        raise OSError(errno.EINVAL, "it is a link or a device, not a file")
    return slices(path, [(int(offsets[row]), int(sizes[row]))])[0]


def slices(path: Path, places: list[tuple[int, int]]) -> list[bytes]:
    """Bytes of a file by offset and size; fewer where it ends before."""
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        return [os.pread(file.fileno(), max(0, min(size, end - offset)), offset) for offset, size in places]


@lru_cache(maxsize=4096)
def _members(path: Path, length: int, _modified: int) -> Members:
    with path.open("rb") as file:
        if path.name.lower().endswith(COMPRESSED_TARS) or file.read(8).startswith(_MAGIC):
            raise UserError(f"shard {path} is compressed, so that its images cannot be read where they lie: decompress it to a plain .tar")
        if not length:
            raise UserError(f"shard {path} is empty, not even a tar of no files: pack it again, or remove it")
        file.seek(0)
        try:
            found = _headers(file, length)
        except OSError:
            raise
        except Exception as error:  # besides its own errors tarfile raises almost any on damaged headers
            raise UserError(f"shard {path} is damaged or no tar ({' '.join(str(error).split()) or type(error).__name__}): pack it again") from error
    for name, _, _ in found:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise UserError(f"shard {path} holds the name {name!r}, which points out of it: pack it again with names relative to its root")
    names = [quote(name, errors="surrogateescape") for name, _, _ in found]
    if len(set(names)) < len(names):
        ((twice, _),) = Counter(names).most_common(1)
        raise UserError(f"shard {path} holds {twice} twice, and images are told apart by their names: pack it again")
    offsets, sizes = (np.array([header[field] for header in found], np.int64) for field in (1, 2))
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    return Members(pa.array(names, pa.string()), offsets, sizes, order)


def _headers(file: BinaryIO, length: int) -> list[tuple[str, int, int]]:
    """Name, offset and size of each member that is not hidden. The members' bytes are passed over."""
    found: list[tuple[str, int, int]] = []
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while True:
            try:
                member = archive.next()
            except tarfile.ReadError:
                if archive.offset > length:  # the last member is cut short
                    return found
                raise
            if member is None:
                break
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
            if archive.offset <= member.offset:
                raise tarfile.ReadError("a member of negative size")
            if not member.isdir() and not any(part.startswith(".") and part != ".." for part in PurePosixPath(member.name).parts):
                plain = member.isreg() and not member.issparse()
                found.append((member.name, member.offset_data, member.size) if plain else (member.name, NOT_A_FILE, 0))
        file.seek(archive.offset)
        if any(any(block) for block in iter(lambda: file.read(1 << 16), b"")):
            raise tarfile.ReadError(f"no header at byte {archive.offset:,}, where one or the end should be: cut short, or several tars in one")
    return found
