"""A cheap stamp of what a source holds: part of an ingest's key, so that changed images are listed anew."""

import hashlib
from pathlib import Path

from schemas.sources import Folder, Source
from ssl_tasks.data.folder import walk


def fingerprint(source: Source, workspace: Path) -> str:
    """Stamp of a source's content; no file is read and nothing heavy imported.

    For a folder: the names, sizes and modification times of its images. The bytes of every other source follow from its config.

    Raises:
        UserError: where a folder is missing, cannot be read or holds no image.
    """
    if not isinstance(source, Folder):
        return f"{source.kind}@1"
    root, digest = workspace / source.path, hashlib.sha256()
    for path in walk(root):
        stat = path.lstat() if not path.exists() else path.stat()
        digest.update(f"{path.relative_to(root).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
