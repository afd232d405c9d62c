"""Leaks: train images beside the evaluation images that they are near duplicates of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_tasks.curate.report.pictures import Album, Tile
from ssl_tasks.curate.report.story import Story
from ssl_tasks.data import leaks as known
from ssl_tasks.data import manifest

PAIRS = 18


@dataclass(frozen=True)
class Pair:
    """One leak.

    Attributes:
        where: set and split of the evaluation image.
    """

    train: Tile
    evaluated: Tile
    where: str
    dropped: bool


@dataclass(frozen=True)
class Leaks:
    """What leakage steps found, in this curation or an earlier one.

    Attributes:
        counts: of each set and split how many pairs there are, and in how many the train image was dropped.
    """

    counts: list[tuple[str, str, int, int]]
    pairs: list[Pair]
    total: int


def leaks(story: Story, album: Album) -> Leaks | None:
    """Of every set in turn the pairs most and least alike; None where no leakage step was ever taken, or none found any."""
    path = story.pool.payload / known.PAIRS
    if not path.is_file():
        return None
    table = pq.read_table(path)
    if not len(table):
        return None
    order = [("set_name", "ascending"), ("split", "ascending"), ("similarity", "descending"), ("train_id", "ascending"), ("eval_id", "ascending")]
    table = table.sort_by(order)
    sets = np.array([f"{name}\0{split}" for name, split in zip(table["set_name"].to_pylist(), table["split"].to_pylist(), strict=True)])
    _, starts, of, sizes = np.unique(sets, return_index=True, return_inverse=True, return_counts=True)
    dropped = np.bincount(of, weights=manifest.column(table, "dropped").astype(float))
    names = table.select(["set_name", "split"]).take(pa.array(starts)).to_pylist()
    counts = [(name["set_name"], name["split"], int(size), int(gone)) for name, size, gone in zip(names, sizes, dropped, strict=True)]
    place = np.arange(len(of)) - starts[of]
    from_either_end = np.minimum(2 * place, 2 * (sizes[of] - 1 - place) + 1)
    shown = np.sort(np.lexsort((of, from_either_end))[:PAIRS])
    return Leaks(counts, _pairs(story, album, table.take(pa.array(shown)).to_pylist()), len(table))


def _pairs(story: Story, album: Album, rows: list[dict[str, Any]]) -> list[Pair]:
    references = {key: reference for reference, key in story.pool.job.inputs.items()}
    manifests: dict[str, pa.Table] = {}
    pairs = []
    for row in rows:
        if row["set"] not in manifests:
            reference = references.get(row["set"])
            manifests[row["set"]] = manifest.read(story.pool.dataset(reference)) if reference else story.before
        listed, at = manifests[row["set"]], row["eval_id"]
        found = 0 <= at < len(listed) and listed["sha256"][at].as_py() == row["eval_sha256"]
        (train,) = album.of(story.after, [row["train_id"]], [f"{row['similarity']:.3f}"], "gone" if row["dropped"] else "")
        evaluated = album.of(listed, [at])[0] if found else Tile(at, row["set_name"], "", fault="of an earlier curation")
        pairs.append(Pair(train, evaluated, f"{row['set_name']} {row['split']}", row["dropped"]))
    return pairs
