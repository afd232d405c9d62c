"""The images of a source: made sure to be on disk, then found."""

from pathlib import Path

from schemas.errors import UserError
from schemas.job import CACHE
from schemas.sources import Digits, Files, Folder, HuggingFace, Parquet, Planted, Scenes, Source, Torchvision, WebDataset, is_address
from ssl_tasks.data import digits, folder, huggingface, planted, scenes, shards, torchvision_sets
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
        case Files():
            pass


def files(source: Source, workspace: Path, progress: shards.Progress = lambda _done, _of: None) -> list[Found]:
    """Place, label and split of each image of a source, sorted by the files' paths, and within a container as they lie there.

    Containers at an address are downloaded. `holdout` is not yet applied: see `split`.

    Args:
        progress: told of containers that are listed.

    Raises:
        UserError: where there are none, or they cannot be listed.
    """
    try:
        return _files(source, workspace, progress)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or 'the source'} ({error.strerror}): make it readable, or move it out of the source") from error


def _files(source: Source, workspace: Path, progress: shards.Progress) -> list[Found]:
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
            where = source.path if is_address(source.path) else str(workspace / source.path)
            return folder.images(folder.entries(source, workspace), where, source.labels, source.splits)
        case WebDataset():
            return shards.of_tars(source, workspace, progress)
        case Parquet():
            return shards.of_parquet(source, workspace, progress)
        case HuggingFace():
            return huggingface.found(source, workspace, progress)


def split(source: Source, found: Found, sha256: str) -> str:
    """The split of an image once its bytes are known: `holdout` moves a share of the train images, chosen by hash, to `test`.

    Copies of a file therefore land on the same side.
    """
    held_out = isinstance(source, Files) and found.split == "train" and int(sha256[:13] or "f" * 13, 16) < source.holdout * 16**13
    return "test" if held_out else found.split
