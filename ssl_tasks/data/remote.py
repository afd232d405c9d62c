"""Files at an address, such as s3://bucket/images/1.jpg: listed by fsspec, and downloaded once into the workspace's cache.

How a store is reached and with which rights is fsspec's to know: from the store's own environment variables and files (such as
AWS_PROFILE), from FSSPEC_S3_ENDPOINT_URL and the like, or from ~/.config/fsspec (https://filesystem-spec.readthedocs.io,
"Configuration"). Nothing of it stands in a pipeline or a manifest, and every process on every machine reads its own.
"""

import errno
import fcntl
import glob
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from schemas.errors import UserError
from schemas.job import CACHE

_CONTENT = ("ETag", "etag", "md5Hash", "content_md5", "sha256")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "updated", "created")
_PARTIAL = "partial"
_OF_OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def listing(address: str) -> list[tuple[str, tuple[str, ...], str]]:
    """Address, path below `address` and stamp of each file: of those in a folder, of one, or of those that a glob matches.

    Raises:
        UserError: where they cannot be listed.
    """
    with _one_line(address, "list"):
        files, base = _store(address)
        start = address.rstrip("/").removesuffix(base.rstrip("/"))
        parts = base.rstrip("/").split("/")
        fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), None)
        found: dict[str, Any] = files.find(base, detail=True) if fixed is None else files.glob(base, detail=True)
        root = PurePosixPath("/".join(parts[:fixed]))
        each = []
        for name, told in found.items():
            info = told or files.info(name)
            if info.get("type") != "directory":
                path = PurePosixPath(name)
                each.append((start + name, path.relative_to(root).parts or (path.name,), _stamp(info)))
        return each


def fetch(address: str, workspace: Path, stamp: str = "") -> Path:
    """Where a file lies in the cache, once it has been downloaded.

    Args:
        stamp: of the content that is wanted, as `listing` tells it; whatever lies in the cache, or else at the address, where not given.

    Raises:
        FileNotFoundError: where there is none at the address.
        UserError: where it cannot be downloaded or kept.
    """
    name = hashlib.sha256(address.encode()).hexdigest()[:32]
    folder = workspace / CACHE / "remote" / name[:2] / name
    if held := _held(folder, stamp):
        return held
    with _one_line(address, "read"):
        files, path = _store(address)
        wanted = folder / (stamp or _stamp(files.info(path)))
    partial = folder / _PARTIAL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several that want it one downloads and the others wait
            if not wanted.exists():
                with _one_line(address, "read"):
                    files.get_file(path, str(partial))
                for old in _all_held(folder):
                    old.unlink()
                partial.replace(wanted)
            else:
                partial.unlink(missing_ok=True)
    except FileNotFoundError:
        partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise UserError(f"cannot keep {address} in {folder} ({error.strerror}): free space there") from error
    return wanted


def _held(folder: Path, stamp: str) -> Path | None:
    """A file in the cache, of this stamp where one is given."""
    if stamp:
        return folder / stamp if (folder / stamp).exists() else None
    return next(iter(_all_held(folder)), None)


def _all_held(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.name != _PARTIAL)


def _store(address: str) -> tuple[Any, str]:
    """The file system of an address, and its path there."""
    import fsspec

    kind = fsspec.get_filesystem_class(address.partition("://")[0])
    files = kind(**kind._get_kwargs_from_urls(address))
    files.invalidate_cache()
    return files, kind._strip_protocol(address)


def _stamp(info: dict[str, Any]) -> str:
    """Of a file's content: by what the store tells of it."""
    told = [name for name in _CONTENT if info.get(name)] or [name for name in _TIMES if info.get(name)]
    return hashlib.sha256(repr([str(info.get(name)) for name in ("size", *told)]).encode()).hexdigest()[:24]


@contextmanager
def _one_line(address: str, verb: str) -> Iterator[None]:
    """Every store raises errors of its own: they become one line, but for a missing file that is one among many."""
    try:
        yield
    except FileNotFoundError as error:
        if verb == "read":
            raise
        raise UserError(f"nothing lies at {address}: correct `source.path`, or put the files there") from error
    except ImportError as error:
        more = "install sslflow with the extra `s3`" if address.startswith("s3") else "install it"
        raise UserError(f"cannot {verb} {address}: {' '.join(str(error).split())}; {more}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_OUR_DISK:
            raise
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"cannot {verb} {address} ({told}): check the address, the network, and the rights that this machine's environment gives") from error
