"""What MLflow takes for a name, a parameter and a metric, made from what we have."""

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.artifacts import Artifact, Dataset
from schemas.references import references
from workflows.engine.reuse import Planned, flatten, made

Point = list[Any]
"""A metric's name, value, time in milliseconds and step: what MLflow's `Metric` is made of, and JSON can say."""
_LONGEST_PARAM, _LONGEST_NAME, _LONGEST_DIGEST = 6000, 250, 36


def clean(name: str) -> str:
    """A name that MLflow takes for a metric, parameter or tag: `teacher[seed=0]/knn@1` becomes `teacher-seed-0/knn-1`."""
    parts = (re.sub(r"-+(?=\.|$)", "", re.sub(r"[^\w.\- :]+", "-", part)).strip("-. ") for part in name.split("/"))
    return "/".join(p for p in parts if p)[:_LONGEST_NAME] or "unnamed"


def params(values: Any) -> dict[str, str]:
    """Parameters by dotted name. A value that is too long ends in its hash, so that two that differ still do."""
    found: dict[str, str] = {}
    for name, value in flatten(values):
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if len(text) > _LONGEST_PARAM:
            text = f"{text[: _LONGEST_PARAM - 40]}... sha256 {hashlib.sha256(text.encode()).hexdigest()[:24]}"
        found[clean(name)] = text
    return found


def digest(value: Any) -> str:
    """A short hash of anything that JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def now() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return round(time.time() * 1000)


def points(values: Mapping[str, float], step: int = 0, seconds: float | None = None, prefix: str = "") -> list[Point]:
    """Points of metrics at one step and time.

    An infinite value becomes nan: MLflow would turn it into 1.8e308, and no chart could show the rest.

    Args:
        seconds: since 1970; now where not given.
        prefix: put before each name, with a slash; such as the name of a student.
    """
    milliseconds = now() if seconds is None else round(seconds * 1000)
    named = {f"{prefix}/{name}" if prefix else name: float(value) for name, value in values.items()}
    return [[clean(name), value if math.isfinite(value) else math.nan, milliseconds, step] for name, value in named.items()]


def curve(artifact: Artifact, prefix: str = "") -> Iterator[Point]:
    """The training curve that a checkpoint keeps beside its weights; nothing for other artifacts."""
    if "metrics.jsonl" in artifact.files:
        for line in artifact.path("metrics.jsonl").read_text().splitlines():
            values = json.loads(line)
            step = values.pop("step")
            yield from points(values, step, prefix=prefix)


def numbers(artifact: Artifact, prefix: str = "") -> list[Point]:
    """Every number of a report as `MODEL/PROTOCOL/METRIC`, with the ends of its interval as `.../low` and `.../high`; nothing of other artifacts.

    These names are the same in all runs, whichever metric a protocol's name alone stands for.
    """
    values: dict[str, float] = {}
    for row in _results(artifact).get("rows", ()):
        name = f"{row['model']}/{row['protocol']}/{row['metric']}"
        values |= {name: row["value"], **{f"{name}/{end}": row[end] for end in ("low", "high") if row.get(end) is not None}}
    return points(values, prefix=prefix)


def conditions(artifact: Artifact) -> dict[str, str]:
    """Under what a report's numbers were made, as parameters: `knn/version`, `knn/k`, and the id of the split; nothing of other artifacts."""
    found = _results(artifact)
    versions = {row["protocol"]: row["version"] for row in found.get("rows", ())}
    settings = {f"{name}/{key}": value for name, protocol in found.get("protocols", {}).items() for key, value in protocol.items() if key != "kind"}
    split = {"split/id": found["split"]["id"]} if "split" in found else {}
    stated = {**{f"{name}/version": version for name, version in versions.items()}, **settings, **split}
    return params(stated) if stated else {}


def _results(artifact: Artifact) -> dict[str, Any]:
    if "results.json" not in artifact.files:
        return {}
    stated: dict[str, Any] = json.loads(artifact.path("results.json").read_text(encoding="utf-8"))
    return stated


def manifest_hash(artifact: Artifact | None) -> dict[str, str]:
    """Of a Dataset the sha256 of its manifest, as a tag; nothing for other artifacts."""
    return {"manifest.sha256": artifact.manifest} if isinstance(artifact, Dataset) else {}


def inputs(workspace: Path, planned: Planned) -> Iterator[dict[str, Any]]:
    """Which images a stage sees, a dataset each: the hash of its manifest as digest; its key and the version of its raw data as tags."""
    context = "eval" if planned.stage.kind == "evaluate" else "train"
    for text in dict.fromkeys(r.text for r in references(planned.stage) if r.takes == "Dataset"):
        if (dataset := made(workspace, planned.inputs[text])) and (tags := manifest_hash(dataset)):
            tags |= {"manifest": dataset.key, "data.version": dataset.data_version or "not under DVC"}
            source = json.dumps({"uri": str(dataset.folder)})
            yield {"name": text, "digest": tags["manifest.sha256"][:_LONGEST_DIGEST], "source": source, "context": context, "tags": tags}
