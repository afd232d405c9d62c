"""Cheap stamps of what stages read besides artifacts: part of their keys, so that changed images are listed anew, and changed annotations judged by."""

import hashlib
from pathlib import Path

from schemas.artifacts import sha256
from schemas.errors import UserError
from schemas.sources import Files, Folder, Planted, Source
from ssl_tasks.data.folder import entries


def fingerprint(source: Source, workspace: Path) -> str:
    """Stamp of a source's content; no file is read and nothing heavy imported.

    Of files on disk: their names, sizes and modification times. Of files at an address: their names, and the hashes that the
    store tells of their content, or where it tells none their sizes and times. The bytes of every other source follow from its config.

    Raises:
        UserError: where a folder is missing, cannot be read or holds nothing of the source's kind.
    """
    if isinstance(source, Planted) and isinstance(source.images, Folder):
        return f"planted@1:{fingerprint(source.images, workspace)}"
    if not isinstance(source, Files):
        return f"{source.kind}@1"
    digest = hashlib.sha256()
    for entry in entries(source, workspace):
        stamp = entry.stamp or _stamp(Path(entry.uri))
        digest.update(f"{'/'.join(entry.parts)}\0{stamp}\n".encode())
    return digest.hexdigest()


def of_annotations(key: str, path: Path) -> str:
    """Stamp of a file's bytes, or of the names, sizes and modification times of the files in a folder.

    Args:
        key: that names the path, for a person.

    Raises:
        UserError: where there is none, or it cannot be read.
    """
    try:
        if not path.is_dir():
            return sha256(path)
        digest = hashlib.sha256()
        for file in sorted(each for each in path.rglob("*") if each.is_file()):
            digest.update(f"{file.relative_to(path)}\0{_stamp(file)}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise UserError(f"{key}: cannot read {error.filename or path} ({error.strerror}); the path is relative to the workspace") from None


def _stamp(path: Path) -> str:
    stat = path.stat() if path.exists() else path.lstat()
    return f"{stat.st_size}\0{stat.st_mtime_ns}"
