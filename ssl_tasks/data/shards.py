"""The images in shards: in WebDataset's tars (https://github.com/webdataset/webdataset, "The WebDataset Format") and in Parquet files."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.sources import Files, Parquet, WebDataset
from ssl_tasks.data import tables, tars
from ssl_tasks.data.containers import cell, listed, local, member
from ssl_tasks.data.folder import SUFFIXES, Entry, Found, check_splits, entries
from ssl_tasks.data.store import parallel

Progress = Callable[[int, int], None]
"""Told how many files are listed, of how many."""
LABELS = ("cls", "json")
LARGEST_LABEL = 1 << 20


def of_tars(source: WebDataset, workspace: Path, progress: Progress) -> list[Found]:
    """Every image in tar shards, in the order of the shards' paths and of the members in each.

    Raises:
        UserError: where there are none, a shard is damaged, or a label cannot be read.
    """
    found = []
    for entry, path in on_disk(entries(source, workspace), workspace, progress):
        container, split = listed(entry.uri, workspace), split_of(entry) if source.splits else "train"
        members = tars.members(path)
        names = members.names.to_pylist()
        known = _labels(path, names, members.offsets.tolist(), members.sizes.tolist()) if source.labels else {}
        found += [Found(member(n, container), known.get(_sample(n)[0]), split, entry.stamp) for n in names if n.lower().endswith(SUFFIXES)]
    return _some(found, source)


def of_parquet(source: Parquet, workspace: Path, progress: Progress) -> list[Found]:
    """Every row of Parquet files, in the order of the files' paths.

    Raises:
        UserError: where there are none, or a file is damaged or has no such columns.
    """
    found = []
    for entry, path in on_disk(entries(source, workspace), workspace, progress):
        container, split = listed(entry.uri, workspace), split_of(entry) if source.splits else "train"
        each = enumerate(tables.labels(path, source.image, source.label))
        found += [Found(cell("parquet", row, source.image, container), label, split, entry.stamp) for row, label in each]
    return _some(found, source)


def on_disk(there: Sequence[Entry], workspace: Path, progress: Progress) -> Iterator[tuple[Entry, Path]]:
    """Each file with its place on disk; what lies at an address is downloaded, several at a time."""
    paths = parallel(lambda entry: local(entry.uri, workspace, entry.stamp), there)
    for done, (entry, path) in enumerate(zip(there, paths, strict=True), 1):
        yield entry, path
        progress(done, len(there))


def split_of(entry: Entry) -> str:
    """The split that a shard is of: its first folder, or for `train-0001-of-0100.parquet` in no folder what stands before the `-`."""
    return entry.parts[0] if len(entry.parts) > 1 else entry.parts[0].partition(".")[0].partition("-")[0]


def _some(found: list[Found], source: Files) -> list[Found]:
    if not found:
        raise UserError(f"no images in the files at {source.path}: images are {' '.join(s[1:] for s in SUFFIXES)} files, or rows of a table")
    check_splits({image.split for image in found}, source.path)
    return found


def _sample(name: str) -> tuple[str, str]:
    """What a member's name says of it: the sample, which is all up to the first dot of the last part, and what of it the member is."""
    folder, slash, last = name.rpartition("/")
    key, _, what = last.partition(".")
    return folder + slash + key, what.lower()


def _labels(path: Path, names: list[str], offsets: list[int], sizes: list[int]) -> dict[str, str]:
    """The label of each sample that has one."""
    told = [(*_sample(name), name, offset, size) for name, offset, size in zip(names, offsets, sizes, strict=True) if _sample(name)[1] in LABELS]
    places = [(offset, min(size, LARGEST_LABEL)) for *_, offset, size in told if offset != tars.NOT_A_FILE]
    whole = [each for each in told if each[3] != tars.NOT_A_FILE]
    found: dict[str, str] = {}
    for (sample, what, name, _, _), data in zip(whole, tars.slices(path, places), strict=True):
        try:
            value: Any = data.decode().strip() if what == "cls" else json.loads(data)
            value = value.get("label") if isinstance(value, dict) else value
        except ValueError as error:  # text that is not UTF-8 is one too
            raise UserError(f"{name} in shard {path} is no label ({error}): correct it, or set `labels: false`") from error
        if isinstance(value, dict | list):
            raise UserError(f"{name} in shard {path} has a label that is neither text nor a number: correct it, or set `labels: false`")
        if value not in (None, ""):
            found.setdefault(sample, str(value))
    return found
