"""Rows and deltas: every number of an evaluation with what it takes to read it. Plain data, no models."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from schemas.artifacts import Artifact
from schemas.evaluations import Protocol
from schemas.stages import Comparison, Evaluate

Role = Literal["teacher", "student", "alone", "pretrained", "pixels", "random"]
Metric = Literal["accuracy", "effective_rank"]


@dataclass(frozen=True)
class Row:
    """One model under one protocol.

    Attributes:
        protocol: its name in this evaluation; `version` is the id that makes numbers comparable.
        values: one number a draw, in the order of the draws, which is the same for all models.
        spread: sample standard deviation over draws; None where there is one number.
        n: images that are scored: queries, or features looked at.
        parameters: of the encoder; 0 for raw pixels.
        dim: length of the feature vector.
        split: id of the split, see `ssl_tasks.evaluate.split`.
    """

    model: str
    role: Role
    protocol: str
    version: str
    metric: Metric
    values: list[float]
    n: int
    parameters: int
    dim: int
    split: str
    value: float = field(init=False)
    spread: float | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", statistics.fmean(self.values))
        object.__setattr__(self, "spread", statistics.stdev(self.values) if len(self.values) > 1 else None)

    def as_json(self) -> dict[str, Any]:
        """The row as it stands in `results.json`."""
        return asdict(self)


def roles(stage: Evaluate, artifacts: Mapping[str, Artifact]) -> dict[str, Role]:
    """What each model is, from how it was made and what it is compared with.

    Args:
        artifacts: of each reference.
    """
    taught = [a for a in artifacts.values() if a.kind == "distill"]
    teachers = {a.parents[a.config["teacher"]] for a in taught} | {artifacts[c.teacher].key for c in stage.compare}
    alone = {c.alone for c in stage.compare}

    def role(name: str) -> Role:
        if artifacts[name].kind == "distill":
            return "student"
        if artifacts[name].key in teachers:
            return "teacher"
        return "alone" if name in alone else "pretrained"

    return {name: role(name) for name in artifacts}


def names(protocols: Sequence[Protocol]) -> list[str]:
    """A name for each protocol: its kind, and where a kind comes twice also the fields in which they differ, `knn_k5`."""

    def name(protocol: Protocol) -> str:
        twins = [p.model_dump() for p in protocols if p.kind == protocol.kind]
        own = protocol.model_dump()
        return "_".join([protocol.kind, *(f"{f}{own[f]:g}" for f in own if f != "kind" and any(t[f] != own[f] for t in twins))])

    return [name(p) for p in protocols]


def deltas(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """What distillation changed, one entry a comparison and protocol.

    `spread` of a delta is the standard deviation of the differences draw by draw: all models see the same draws.
    """
    found = {(row.model, row.protocol): row for row in rows}
    entries = []
    for comparison in comparisons:
        for row in (r for r in rows if r.model == comparison.student):
            entry: dict[str, Any] = {**comparison.model_dump(), "protocol": row.protocol, "version": row.version, "metric": row.metric}
            for other in ("alone", "teacher"):
                against = found[entry[other], row.protocol]
                differences = [a - b for a, b in zip(row.values, against.values, strict=True)]
                entry[f"distilled_minus_{other}"] = statistics.fmean(differences)
                entry[f"distilled_minus_{other}_spread"] = statistics.stdev(differences) if len(differences) > 1 else None
            entries.append(entry)
    return entries


def flat(rows: Sequence[Row], entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics under one name each: `teacher/knn`, `students.small/few_shot/spread`, `students.small/knn/distilled_minus_alone`."""
    metrics = {f"{row.model}/{row.protocol}": row.value for row in rows}
    metrics |= {f"{row.model}/{row.protocol}/spread": row.spread for row in rows if row.spread is not None}
    for entry in entries:
        for delta in ("distilled_minus_alone", "distilled_minus_teacher"):
            metrics[f"{entry['student']}/{entry['protocol']}/{delta}"] = entry[delta]
    return metrics
