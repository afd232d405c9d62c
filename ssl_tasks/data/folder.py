"""The files of a source, in a folder of any nesting or at an address: which, in which order, and of which split and label if they are images."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from schemas.errors import UserError
from schemas.sources import Files, HuggingFace, Parquet, WebDataset, is_address

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npy")
COMPRESSED_TARS = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Found(NamedTuple):
    """One image of a source.

    Attributes:
        uri: as a manifest has it, but the path of a file on disk may be spelled another way.
        stamp: of its content, where it is a file at an address.
    """

    uri: str
    label: str | None
    split: str
    stamp: str = ""

    @property
    def path(self) -> Path:
        """Of an image that is a file on disk."""
        return Path(self.uri)


class Entry(NamedTuple):
    """One file of a source.

    Attributes:
        uri: its path on disk, or its address.
        parts: its path below the folder that the source names.
        stamp: of its content, where it lies at an address.
    """

    uri: str
    parts: tuple[str, ...]
    stamp: str = ""


def entries(source: Files, workspace: Path) -> list[Entry]:
    """The files that a source is read from, sorted by their parts; see `walk`.

    Raises:
        UserError: where there are none, or they cannot be listed.
    """
    match source:
        case WebDataset():
            suffixes: tuple[str, ...] = (".tar", *COMPRESSED_TARS)
        case Parquet():
            suffixes = (".parquet", ".pq")
        case HuggingFace():
            suffixes = (".arrow", ".json")
        case _:
            suffixes = SUFFIXES
    if is_address(source.path):
        from ssl_tasks.data import remote

        there = [Entry(*each) for each in remote.listing(source.path) if _is_wanted(each[1], suffixes)]
        if not there:
            raise UserError(f"no {_kinds(suffixes)} files at {source.path}: correct `source.path`, or put them there")
        return sorted(there, key=lambda entry: entry.parts)
    root = workspace / source.path
    if not isinstance(source, WebDataset | Parquet) or root.is_dir():
        return _below(root, walk(root, suffixes))
    if root.is_file():
        return [Entry(str(root), (root.name,))]
    fixed = Path(*(before := root.parts[: next((i for i, part in enumerate(root.parts) if glob.has_magic(part)), len(root.parts))]))
    if len(before) == len(root.parts):
        raise UserError(f"{root} does not exist: correct `source.path` (relative to the workspace), or put the files there")
    matching = set(glob.glob(str(root), recursive=True))
    if not (paths := [path for path in walk(fixed, suffixes) if str(path) in matching]):
        raise UserError(f"no {_kinds(suffixes)} files match {root}: correct `source.path` (relative to the workspace), or put them there")
    return _below(fixed, paths)


def images(there: Sequence[Entry], where: str, labels: bool = False, splits: bool = False) -> list[Found]:
    """The images among files, in their order.

    Args:
        where: they lie, for a person.
        labels: the folder that holds an image names its label; one that lies in the root or directly in a split has none.
        splits: the first folder level names the split; otherwise all are `train`.

    Raises:
        UserError: where there is no `train` among the splits.
    """
    found = []
    for entry in there:
        folders = entry.parts[:-1]
        if splits and not folders:
            raise UserError(f"{entry.uri} lies outside every split: move it into a folder such as {where}/train, or set `splits: false`")
        inner = folders[1:] if splits else folders
        found.append(Found(entry.uri, inner[-1] if labels and inner else None, folders[0] if splits else "train", entry.stamp))
    check_splits({f.split for f in found}, where)
    return found


def check_splits(splits: set[str], where: str) -> None:
    """Raises UserError where none of the splits is `train`."""
    if "train" not in splits:
        raise UserError(f"{where} has no folder 'train' among its splits ({', '.join(sorted(splits))}): rename one, or set `splits: false`")


def listing(root: Path, labels: bool = False, splits: bool = False) -> list[Found]:
    """Every image under a folder on disk, sorted by its path; see `images`.

    Raises:
        UserError: where there is no such folder, no image in it, or no `train` among its splits.
    """
    return images(_below(root, walk(root)), str(root), labels, splits)


def walk(root: Path, suffixes: tuple[str, ...] = SUFFIXES, named: str = "") -> list[Path]:
    """Paths of the files under `root` whose names end so, sorted by their parts; hidden files and folders are left out.

    A symlink counts as what it points to while that lies under `root`, and is left out otherwise.

    Args:
        named: what the folder is called where a person wrote it; `source.path` where not given.

    Raises:
        UserError: where the folder is missing, cannot be read, or holds no such file.
    """
    what = "images" if suffixes == SUFFIXES else f"{_kinds(suffixes)} files"
    if not os.path.isdir(root):
        instead = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise UserError(f"folder of {what} {root} {instead}: correct {named or '`source.path` (relative to the workspace)'}, or put the {what} there")
    real = Path(os.path.realpath(root))
    seen: set[str] = set()
    paths = sorted(_walk(root, (real,), suffixes, seen), key=lambda p: p.parts)
    if not paths:
        others = f"; it holds {', '.join(sorted(seen))} files" if seen else ""
        raise UserError(f"no {what} under {root}{others}: point {named or '`source.path`'} at a folder of {_kinds(suffixes)} files")
    return paths


def relative(path: str | Path, workspace: Path) -> str:
    """A path relative to the workspace, or absolute where it lies outside; symlinks stay as they are."""
    absolute, root = Path(os.path.abspath(path)), Path(os.path.abspath(workspace))
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()


def _walk(folder: Path, chain: tuple[Path, ...], suffixes: tuple[str, ...], seen: set[str]) -> Iterator[Path]:
    """`chain` is the real path of the root and of each folder down to this one: a link to one of them would be a loop."""
    try:
        found = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"cannot read folder {folder} ({error.strerror}): make it readable, or move it out of the source") from error
    for entry in found:
        if entry.name.startswith("."):
            continue
        path, link = folder / entry.name, entry.is_symlink()
        real = Path(os.path.realpath(path)) if link else chain[-1] / entry.name
        if link and not real.is_relative_to(chain[0]):
            continue
        if real.is_dir() if link else entry.is_dir():
            if real not in chain:
                yield from _walk(path, (*chain, real), suffixes, seen)
        elif not _is_wanted((entry.name,), suffixes):
            seen.add(path.suffix.lower() or "suffixless")
        elif not path.exists() or path.is_file():  # a dangling link is listed, to be quarantined; pipes and devices are not
            yield _named(path)


def _is_wanted(parts: tuple[str, ...], suffixes: tuple[str, ...]) -> bool:
    """Whether a file is of a source: by its name, and not hidden, nor what `datasets` keeps of its own beside its data."""
    mine = ".arrow" in suffixes and parts[-1].startswith("cache-")
    return parts[-1].lower().endswith(suffixes) and not mine and not any(part.startswith(".") for part in parts)


def _below(root: Path, paths: Sequence[Path]) -> list[Entry]:
    return [Entry(str(path), path.relative_to(root).parts) for path in paths]


def _kinds(suffixes: tuple[str, ...]) -> str:
    return " ".join(suffix[1:] for suffix in suffixes if suffix not in COMPRESSED_TARS)


def _named(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"file name {os.fsencode(path)!r} is not UTF-8: rename the file") from error
    return path
