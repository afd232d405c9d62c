"""Folders that are there whole or not at all."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import UserError


@contextmanager
def whole(root: Path, scratch: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes `root` at the end of the block.

    After an error nothing is left of it. Where another process was faster and `root` is there, that one stays.

    Args:
        scratch: where the draft lies meanwhile, so that a killed process leaves nothing beside `root`; used while it is on the
            same file system.

    Raises:
        UserError: where the folder cannot be written.
    """
    draft = None
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        same = scratch.stat().st_dev == root.parent.stat().st_dev
        draft = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=scratch if same else root.parent))
        draft.chmod(0o755)
        yield draft
        _rename(draft, root)
    except OSError as error:
        raise UserError(f"cannot write {root} ({error.strerror}): free space there, or choose another folder in `source`") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _rename(draft: Path, root: Path) -> None:
    try:
        draft.rename(root)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
