"""Data sets that Hugging Face `datasets` left on disk by `save_to_disk` (https://huggingface.co/docs/datasets/process#save): Arrow files and what they hold.

A data set is a folder with `state.json`, which names its Arrow files, and `dataset_info.json`, which names its classes. A dict of
data sets is a folder with `dataset_dict.json` and one such folder a split.
"""

import json
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.sources import HuggingFace
from ssl_tasks.data import tables
from ssl_tasks.data.containers import cell, listed, local
from ssl_tasks.data.folder import Entry, Found, check_splits, entries
from ssl_tasks.data.shards import Progress, on_disk


def found(source: HuggingFace, workspace: Path, progress: Progress) -> list[Found]:
    """Every row of a data set, in the order of its splits' names, its files and their rows.

    Raises:
        UserError: where it is no such data set, a file is missing or damaged, or a column is not there.
    """
    there = {entry.parts: entry for entry in entries(source, workspace)}
    if ("dataset_dict.json",) not in there:
        return _of_one(source, workspace, there, (), "train", progress)
    splits = _json(there[("dataset_dict.json",)], workspace).get("splits")
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise UserError(f"dataset_dict.json in {source.path} names no splits: save the data set again")
    check_splits(set(splits), source.path)
    return [image for split in sorted(splits) for image in _of_one(source, workspace, there, (split,), split, progress)]


def _of_one(source: HuggingFace, workspace: Path, there: dict[tuple[str, ...], Entry], folder: tuple[str, ...], split: str, progress: Progress) -> list[Found]:
    where = "/".join((source.path, *folder))
    if (*folder, "state.json") not in there:
        raise UserError(f"{where} is no data set that `save_to_disk` wrote (it has no state.json): correct `source.path`, or save the data set again")
    named = _json(there[*folder, "state.json"], workspace).get("_data_files")
    try:
        # Only files of the folder itself: a name with slashes is in no folder's list.
        files = [there[*folder, part["filename"]] for part in named or []]
    except (KeyError, TypeError) as error:
        raise UserError(f"state.json in {where} names a file that is not there ({error}): copy the whole folder, or save the data set again") from error
    info = there.get((*folder, "dataset_info.json"))
    features = _json(info, workspace).get("features") if info else None
    names = tables.class_names(features if isinstance(features, dict) else {}, source.label)
    images = []
    for entry, path in on_disk(files, workspace, progress):
        container = listed(entry.uri, workspace)
        each = enumerate(tables.labels(path, source.image, source.label, names))
        images += [Found(cell("arrow", row, source.image, container), label, split, entry.stamp) for row, label in each]
    if not images:
        raise UserError(f"{where} holds no images: correct `source.path`, or save the data set again")
    return images


def _json(entry: Entry, workspace: Path) -> dict[str, Any]:
    try:
        told = json.loads(local(entry.uri, workspace, entry.stamp).read_bytes())
    except ValueError as error:
        raise UserError(f"{entry.uri} is damaged ({error}): save the data set again") from error
    return told if isinstance(told, dict) else {}
