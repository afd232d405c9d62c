"""The images of a source: made sure to be on disk, then found."""

from pathlib import Path

from schemas.job import CACHE
from schemas.sources import Digits, Folder, Planted, Scenes, Source, Torchvision
from ssl_tasks.data import digits, folder, planted, scenes, torchvision_sets
from ssl_tasks.data.folder import Found


def materialise(source: Source, workspace: Path) -> None:
    """Write the images of a source that is made rather than given; nothing is written a second time.

    Raises:
        UserError: where they cannot be made or downloaded, or something else lies in their place.
    """
    scratch = workspace / CACHE
    match source:
        case Digits():
            digits.write(workspace / source.path, scratch)
        case Torchvision():
            torchvision_sets.write(source, workspace / source.root, scratch)
        case Scenes():
            scenes.write(source, scenes.place(source, workspace), scratch)
        case Planted():
            planted.write(source, planted.place(source, workspace), workspace)
        case Folder():
            pass


def files(source: Source, workspace: Path) -> list[Found]:
    """Path, label and split of each image of a source, sorted by path. A folder's `holdout` is not yet applied: see `split`.

    Raises:
        UserError: where there are none, or a folder cannot be read.
    """
    match source:
        case Digits():
            return folder.listing(workspace / source.path, labels=True, splits=True)
        case Torchvision():
            return folder.listing(torchvision_sets.place(source, workspace / source.root), labels=True, splits=True)
        case Scenes():
            return folder.listing(scenes.place(source, workspace) / "images", labels=True, splits=True)
        case Planted():
            return folder.listing(planted.place(source, workspace) / source.part, labels=True, splits=True)
        case Folder():
            return folder.listing(workspace / source.path, source.labels, source.splits)


def split(source: Source, found: Found, sha256: str) -> str:
    """The split of an image once its bytes are known: `holdout` moves a share of the train images, chosen by hash, to `test`.

    Copies of a file therefore land on the same side.
    """
    held_out = isinstance(source, Folder) and found.split == "train" and int(sha256[:13] or "f" * 13, 16) < source.holdout * 16**13
    return "test" if held_out else found.split
