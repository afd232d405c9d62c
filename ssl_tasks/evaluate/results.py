"""Rows and deltas: every number of an evaluation with what it takes to read it. Plain data, no models."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.artifacts import Artifact
from schemas.naming import names
from schemas.stages import Comparison, Evaluate
from ssl_tasks.evaluate.comparing import compared
from ssl_tasks.evaluate.intervals import Interval, over_images, over_items, over_seeds
from ssl_tasks.evaluate.metrics import METRICS

__all__ = ["Role", "Row", "deltas", "flat", "names", "possible", "roles", "skips", "teachers"]

Role = Literal["teacher", "student", "alone", "pretrained", "pixels", "random"]


@dataclass(frozen=True)
class Row:
    """One model under one protocol.

    Attributes:
        protocol: its name in this evaluation; `version` is the id that makes numbers comparable.
        values: one number a draw, in the order of the draws, which is the same for all models.
        measure: what tells the row from the model's others: the protocol, and the metric where the protocol gives several.
        spread: sample standard deviation over draws; None where there is one number.
        n: images that are scored: queries, or features looked at; of a time the passes.
        items: of each item its score, see `findings.Number`; kept in `items.npz` and not in `results.json`.
        parameters: of the encoder; 0 for raw pixels.
        dim: length of the feature vector.
        split: id of the split, see `ssl_tasks.evaluate.split`.
    """

    model: str
    role: Role
    protocol: str
    version: str
    metric: str
    values: list[float]
    n: int
    parameters: int
    dim: int
    split: str
    items: NDArray[np.floating] | None = field(default=None, compare=False, repr=False)
    measure: str = field(init=False)
    value: float = field(init=False)
    spread: float | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measure", self.protocol if METRICS[self.metric].main else f"{self.protocol}/{self.metric}")
        object.__setattr__(self, "value", statistics.fmean(self.values))
        object.__setattr__(self, "spread", statistics.stdev(self.values) if len(self.values) > 1 else None)

    @cached_property
    def interval(self) -> Interval | None:
        """How sure the value is: over images where its items are known or it is a share of them, else over draws; None where neither tells."""
        if self.items is not None and len(self.items):
            return possible(over_items(self.items), self.metric)
        if METRICS[self.metric].share and len(self.values) == 1:
            return over_images(self.value, self.n)
        return self.over_draws

    @property
    def over_draws(self) -> Interval | None:
        """The interval over draws, which says nothing of other images; None of one value."""
        found = over_seeds(self.values, "draws")
        return possible(found, self.metric) if found else None

    def as_json(self) -> dict[str, Any]:
        """The row as it stands in `results.json`: with `low`, `high` and `over` of its interval, and the ends of that over draws."""
        stated = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "items"}
        low, high, over = self.interval or (None, None, None)
        return stated | {"low": low, "high": high, "over": over, "over_draws": list(self.over_draws[:2]) if self.over_draws else None}


def possible(interval: Interval, metric: str) -> Interval:
    """An interval without what its metric cannot be."""
    facts = METRICS[metric]
    return Interval(max(interval.low, facts.least), min(interval.high, facts.most), interval.over)


def roles(stage: Evaluate, artifacts: Mapping[str, Artifact]) -> dict[str, Role]:
    """What each model is, from how it was made and what it is compared with.

    Args:
        artifacts: of each reference.
    """
    taught = teachers(stage, artifacts)
    teaching = {artifacts[name].key for name in taught.values()} | {a.parents[a.config["teacher"]] for a in artifacts.values() if _is_taught(a)}
    alone, students = ({getattr(c, field) for c in stage.compare} for field in ("alone", "student"))

    def role(name: str) -> Role:
        artifact = artifacts[name]
        if name in alone or (artifact.kind == "distill" and artifact.config["baseline"]):
            return "alone"
        if artifact.kind == "distill" or name in students:
            return "student"
        return "teacher" if artifact.key in teaching else "pretrained"

    return {name: role(name) for name in artifacts}


def teachers(stage: Evaluate, artifacts: Mapping[str, Artifact]) -> dict[str, str]:
    """Of each model that has a teacher among the models its name: the one that it is compared with, as is its baseline, or that it was made from."""
    by_key = {artifact.key: name for name, artifact in artifacts.items()}
    found: dict[str, str] = {}
    for comparison in stage.compare:
        for pupil in (comparison.student, comparison.alone):
            if pupil and comparison.teacher:
                found.setdefault(pupil, comparison.teacher)
    for name, artifact in artifacts.items():
        if _is_taught(artifact) and (key := artifact.parents[artifact.config["teacher"]]) in by_key:
            found.setdefault(name, by_key[key])
    return found


def _is_taught(artifact: Artifact) -> bool:
    return artifact.kind == "distill" and artifact.config["teacher"] is not None


def deltas(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """What distillation changed, one entry a comparison and measure of quality; without what one of its models does not have.

    `spread` of a delta is the standard deviation of the differences draw by draw: all models see the same draws. `test` says how sure it is.
    """
    found = {(row.model, row.measure): row for row in rows}
    entries = []
    for comparison in comparisons:
        for row in (r for r in rows if r.model == comparison.student and METRICS[r.metric].quality):
            named = {"protocol": row.protocol, "measure": row.measure, "version": row.version, "metric": row.metric}
            entry: dict[str, Any] = {**comparison.model_dump(), **named}
            for other in ("alone", "teacher"):
                if against := found.get((entry[other], row.measure)):
                    differences = [a - b for a, b in zip(row.values, against.values, strict=True)]
                    entry[f"distilled_minus_{other}"] = statistics.fmean(differences)
                    entry[f"distilled_minus_{other}_spread"] = statistics.stdev(differences) if len(differences) > 1 else None
                    if test := compared(row, against):
                        entry[f"distilled_minus_{other}_test"] = test.as_json()
            entries.append(entry)
    return entries


def flat(rows: Sequence[Row], entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics under one name each: `teacher/knn`, `students.small/few_shot/spread`, `students.small/knn/distilled_minus_alone`.

    The ends of intervals, `teacher/knn/low`, are those of models alone, and of what tables show: the rest is in `results.json`.
    """
    metrics = {f"{row.model}/{row.measure}": row.value for row in rows}
    metrics |= {f"{row.model}/{row.measure}/spread": row.spread for row in rows if row.spread is not None}
    for row in (r for r in rows if r.role not in ("pixels", "random") and METRICS[r.metric].shown and r.interval):
        metrics |= {f"{row.model}/{row.measure}/{end}": getattr(row.interval, end) for end in ("low", "high")}
    for entry in entries:
        for delta in ("distilled_minus_alone", "distilled_minus_teacher"):
            if delta in entry:
                metrics[f"{entry['student']}/{entry['measure']}/{delta}"] = entry[delta]
    return metrics


def skips(skipped: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line a protocol and reason, for models of which it says nothing."""
    lines = []
    for protocol, models in skipped.items():
        for reason in dict.fromkeys(models.values()):
            lines.append(f"Not judged by {protocol}: {', '.join(name for name, why in models.items() if why == reason)}, which {reason}")
    return lines
