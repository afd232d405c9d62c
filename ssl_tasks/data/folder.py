"""Images in a folder of any nesting: which files, in which order, with which label and split."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npy")


class Found(NamedTuple):
    """One image file of a source."""

    path: Path
    label: str | None
    split: str


def listing(root: Path, labels: bool = False, splits: bool = False) -> list[Found]:
    """Every image under `root`, sorted by its path.

    Args:
        labels: the folder that holds an image names its label; one that lies in the root or directly in a split has none.
        splits: the first folder level names the split; otherwise all are `train`.

    Raises:
        UserError: where there is no such folder, no image in it, or no `train` among its splits.
    """
    found = []
    for path in walk(root):
        folders = path.relative_to(root).parts[:-1]
        if splits and not folders:
            raise UserError(f"{path} lies outside every split: move it into a folder such as {root / 'train'}, or set `splits: false`")
        inner = folders[1:] if splits else folders
        found.append(Found(path, inner[-1] if labels and inner else None, folders[0] if splits else "train"))
    names = sorted({f.split for f in found})
    if "train" not in names:
        raise UserError(f"{root} has no folder 'train' among its splits ({', '.join(names)}): rename one, or set `splits: false`")
    return found


def walk(root: Path) -> list[Path]:
    """Paths of the image files under `root`, sorted by their parts; hidden files and folders are left out.

    A symlink counts as what it points to while that lies under `root`, and is left out otherwise.

    Raises:
        UserError: where the folder is missing, cannot be read, or holds no image.
    """
    if not os.path.isdir(root):
        what = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise UserError(f"folder of images {root} {what}: correct `source.path` (relative to the workspace), or put the images there")
    real = Path(os.path.realpath(root))
    suffixes: set[str] = set()
    paths = sorted(_walk(root, (real,), suffixes), key=lambda p: p.parts)
    if not paths:
        others = f"; it holds {', '.join(sorted(suffixes))} files" if suffixes else ""
        raise UserError(f"no images under {root}{others}: point `source.path` at a folder of {' '.join(s[1:] for s in SUFFIXES)} files")
    return paths


def _walk(folder: Path, chain: tuple[Path, ...], suffixes: set[str]) -> Iterator[Path]:
    """`chain` is the real path of the root and of each folder down to this one: a link to one of them would be a loop."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"cannot read folder {folder} ({error.strerror}): make it readable, or move it out of the source") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path, link = folder / entry.name, entry.is_symlink()
        real = Path(os.path.realpath(path)) if link else chain[-1] / entry.name
        if link and not real.is_relative_to(chain[0]):
            continue
        if real.is_dir() if link else entry.is_dir():
            if real not in chain:
                yield from _walk(path, (*chain, real), suffixes)
        elif path.suffix.lower() not in SUFFIXES:
            suffixes.add(path.suffix.lower() or "suffixless")
        elif not path.exists() or path.is_file():  # a dangling link is listed, to be quarantined; pipes and devices are not
            yield _named(path)


def _named(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"file name {os.fsencode(path)!r} is not UTF-8: rename the file") from error
    return path
