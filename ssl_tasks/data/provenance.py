"""Why an image of the raw pool is in a dataset or out of it: what its manifest says, step by step.

Only the columns that a question needs are read: a pool of a million images is asked in about a second.
"""

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.artifacts import Dataset
from schemas.errors import UserError
from ssl_tasks.data import leaks, manifest

SHOWN = 8
_SEARCHED = 20_000


@dataclass(frozen=True)
class Listing:
    """A manifest that is asked.

    Attributes:
        name: for a reader: a stage, or the path of a file.
        made: the Dataset and those that it was curated from, the newest first; empty for a file of which nothing else is known.
    """

    name: str
    path: Path
    made: tuple[Dataset, ...] = ()

    @cached_property
    def file(self) -> pq.ParquetFile:
        """The manifest, opened.

        Raises:
            UserError: where it is none.
        """
        try:
            file = pq.ParquetFile(self.path, memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{self.path} is no manifest that can be read ({str(error).splitlines()[0]})") from None
        if absent := set(manifest.SCHEMA.names) - set(file.schema_arrow.names):
            raise UserError(f"{self.path} is no manifest: it has no column {', '.join(sorted(absent))}")
        return file

    def columns(self, *names: str) -> pa.Table:
        """Some columns of all rows."""
        return self.file.read(columns=list(names))

    @cached_property
    def steps(self) -> dict[str, Mapping[str, Any]]:
        """The names of the steps that were taken, in order, each with its config and the figures reported of it, as far as they are known."""
        names = manifest.steps(self.file.schema_arrow.empty_table())
        known: dict[str, Mapping[str, Any]] = {name: {} for name in names}
        left = names
        for dataset in self.made:
            configs = dataset.config.get("steps", [])
            mine, left = left[len(left) - len(configs) :], left[: len(left) - len(configs)]
            reported = {step["step"]: step for step in _report(dataset)}
            known |= {name: {**config, "reported": reported.get(name, {})} for name, config in zip(mine, configs, strict=False)}
        return known


def _report(dataset: Dataset) -> list[dict[str, Any]]:
    try:
        return list(json.loads(dataset.path("report.json").read_text())["steps"])
    except (OSError, ValueError, KeyError):
        return []


@dataclass(frozen=True)
class Image:
    """A row of a manifest, in short. `removed_by` is the step that put it out; empty while it is kept."""

    id: int
    uri: str
    split: str
    kept: bool
    removed_by: str


@dataclass(frozen=True)
class Said:
    """What one step made of the image.

    Attributes:
        verdict: `kept`, `removed`, or `not asked`: it was gone by then, or the step looks at train images alone.
        saw: what it noted of the image, by name.
        limits: how that compares with the step's own bounds where these are known, such as `cosine 0.991 >= 0.97`.
    """

    step: str
    verdict: str
    saw: dict[str, Any]
    limits: dict[str, str]


@dataclass(frozen=True)
class Fate:
    """All that a dataset knows of one image.

    Attributes:
        row: the manifest's own columns.
        removed_by: the step that put it out; empty while it is kept.
        instead: the image that was kept in its place.
        steps: in order.
        stands_for: how many images went because this one was kept; the first of them are `went`.
        cluster_mates: how many others lie in its cluster, and how many of these are kept; None where it is in none.
        leaks: rows of `leaks.parquet` that name it, as train or as evaluation image.
    """

    dataset: str
    key: str
    row: dict[str, Any]
    removed_by: str
    instead: Image | None
    steps: list[Said]
    stands_for: int
    went: list[Image]
    cluster_mates: tuple[int, int] | None
    leaks: list[dict[str, Any]]


def find(listing: Listing, text: str) -> int:
    """The id of the image that `text` means: an id, a uri or the end of one, or a sha256 or its start.

    Raises:
        UserError: if it means none, or several.
    """
    uris = listing.columns("uri")["uri"]
    if text.isdecimal() and int(text) < len(uris):
        return int(text)
    path = text if "://" in text else posixpath.normpath(text)
    for wanted in dict.fromkeys((text, path)):
        if (place := pc.index(uris, wanted).as_py()) >= 0:
            return int(place)
    found = pa.array([], pa.uint64())
    if re.fullmatch(r"[0-9a-f]{6,64}", text):
        found = pc.indices_nonzero(pc.starts_with(listing.columns("sha256")["sha256"], text))
    if not len(found):
        found = pc.indices_nonzero(pc.ends_with(uris, f"/{path}"))
    if len(found) > 1:
        some = ", ".join(f"{place} ({uris[place]})" for place in found.slice(0, SHOWN).to_pylist())
        raise UserError(f"'{text}' means {len(found):,} images of {listing.name}: {some}{' ...' if len(found) > SHOWN else ''}; ask for one by its id")
    if not len(found):
        near = ", ".join(_near(uris, path))
        raise UserError(f"no image '{text}' among the {len(uris):,} of {listing.name}" + (f"; near: {near}" if near else ", by id, uri or sha256"))
    return int(found[0].as_py())


def _near(uris: pa.ChunkedArray, path: str) -> list[str]:
    """Uris whose file names are alike, of those that lie in the same folder or begin with the same letters."""
    folder, name = posixpath.split(path)
    same = pc.or_(pc.starts_with(uris, f"{folder}/") if folder else pc.match_substring(uris, f"/{name[:3]}"), pc.match_substring(uris, f"/{name[:4]}"))
    candidates = uris.filter(same).slice(0, _SEARCHED).to_pylist() or uris.slice(0, _SEARCHED).to_pylist()
    names: dict[str, str] = {}
    for uri in candidates:
        names.setdefault(posixpath.basename(uri), uri)
    return [names[near] for near in get_close_matches(name, names, n=3, cutoff=0.6)]


def fate(listing: Listing, place: int) -> Fate:
    """What became of the image with this id, and why."""
    others = listing.columns("duplicate_of", "cluster", "kept")
    instead, cluster = others["duplicate_of"][place].as_py(), others["cluster"][place].as_py()
    went = pc.indices_nonzero(pc.equal(others["duplicate_of"], place))
    row, *rows = _rows(listing, [place, *([] if instead is None else [instead]), *went.slice(0, SHOWN).to_pylist()])
    images = [_image(listing, each) for each in rows]
    mates = others.filter(pc.equal(others["cluster"], cluster))["kept"]
    return Fate(
        dataset=listing.name,
        key=listing.made[0].key if listing.made else "",
        row={name: row[name] for name in manifest.SCHEMA.names},
        removed_by=_remover(listing, row),
        instead=None if instead is None else images[0],
        steps=_steps(listing, row),
        stands_for=len(went),
        went=images if instead is None else images[1:],
        cluster_mates=None if cluster is None else (len(mates) - 1, pc.sum(mates).as_py() - row["kept"]),
        leaks=_leaks(listing, row),
    )


def _rows(listing: Listing, places: list[int]) -> list[dict[str, Any]]:
    names = listing.file.schema_arrow.names
    found: list[dict[str, Any]] = pa.table({name: listing.columns(name)[name].take(pa.array(places)) for name in names}).to_pylist()
    return found


def _image(listing: Listing, row: dict[str, Any]) -> Image:
    return Image(row["id"], row["uri"], row["split"], row["kept"], _remover(listing, row))


def _remover(listing: Listing, row: Mapping[str, Any]) -> str:
    """The step that put a row out; empty while it is kept."""
    return next((step for step in listing.steps if row.get(f"{step}.kept") is False), "")


def _saw(row: Mapping[str, Any], step: str) -> dict[str, Any]:
    return {name.removeprefix(f"{step}."): value for name, value in row.items() if name.startswith(f"{step}.") and value is not None and name != f"{step}.kept"}


def _steps(listing: Listing, row: Mapping[str, Any]) -> list[Said]:
    """What each step made of a row."""
    told = []
    for step, config in listing.steps.items():
        saw, stayed = _saw(row, step), row.get(f"{step}.kept")
        verdict = "not asked" if stayed is None else "kept" if stayed else "removed"
        told.append(Said(step, verdict, saw, _limits(step.partition("_")[2], verdict == "removed", saw, config)))
    return told


def _limits(kind: str, removed: bool, saw: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """How what a step noted compares with its bounds, where both are known."""
    told = {}
    threshold = next((t for t in (config.get("threshold"), config.get("reported", {}).get("threshold")) if isinstance(t, float | int)), None)
    for name, value in saw.items():
        if name == "similarity" and kind == "deduplicate" and not removed:
            told[name] = "it stands for its component"
        elif name == "similarity" and threshold is not None:
            chained = ", joined by a chain" if kind == "deduplicate" and value < threshold else ""
            told[name] = f"cosine {value:.3f} {'>=' if value >= threshold else '<'} {threshold:.3g}{chained}"
        elif name == "distance" and (most := config.get("distance")) is not None:
            told[name] = f"distance {value:g} {'<=' if value <= most else '>'} {most:g}"
    return told


def _leaks(listing: Listing, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pairs of a train image and an evaluation image, near duplicates of each other, of which the image is one."""
    if not listing.made:
        return []
    pairs = leaks.read(listing.made[0], leaks.PAIRS)
    found: list[dict[str, Any]] = pairs.filter(pc.or_(pc.equal(pairs["train_id"], row["id"]), pc.equal(pairs["eval_sha256"], row["sha256"]))).to_pylist()
    return found
