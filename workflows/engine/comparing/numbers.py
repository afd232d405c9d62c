"""Numbers of several runs side by side: under which conditions they may be, what differs, and how sure that is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from schemas.artifacts import Artifact, Report
from workflows.engine.reuse import flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_tasks.evaluate.comparing import Difference

ITEMS = "items.npz"
_SHORT = 12


@dataclass(frozen=True)
class Measured:
    """A number of a run, as its report states it."""

    run: str
    name: str
    row: Mapping[str, Any]
    report: Artifact

    @property
    def metric(self) -> str:
        """What it is."""
        return str(self.row["metric"])

    @property
    def values(self) -> Sequence[float]:
        """One a draw."""
        return [float(value) for value in self.row["values"]]

    @property
    def value(self) -> float:
        """Their mean."""
        return float(self.row["value"])

    @property
    def n(self) -> int:
        """Images that it rests on."""
        return int(self.row["n"])

    @cached_property
    def items(self) -> "NDArray[Any] | None":
        """The score of each of them; None where the report keeps none."""
        if ITEMS not in self.report.files:
            return None
        import numpy as np

        with np.load(self.report.path(ITEMS)) as kept:
            found: NDArray[Any] | None = kept.get(self.name)
            return found

    def as_json(self) -> dict[str, Any]:
        """The number with its interval."""
        return {"run": self.run, **{fact: self.row.get(fact) for fact in ("value", "low", "high", "over", "spread", "n")}}


@dataclass(frozen=True)
class Line:
    """One model by one measure under one set of conditions.

    Attributes:
        numbers: one a run; None where the run has none under these conditions.
        differences: of each run to the first that has a number here; None of that one, and where nothing tells how sure a difference is.
    """

    stage: str
    model: str
    measure: str
    conditions: Mapping[str, Any]
    numbers: list[Measured | None]
    differences: "list[Difference | None]" = field(default_factory=list)

    @property
    def name(self) -> str:
        """As MLflow calls it."""
        return f"{self.model}/{self.measure}"

    @property
    def same(self) -> bool:
        """Whether all runs have it, and the same."""
        first = self.numbers[0]
        return first is not None and all(number is not None and number.values == first.values for number in self.numbers)


def lines(ids: Sequence[str], made: Sequence[Mapping[str, Artifact]]) -> Iterator[Line]:
    """A line a model, measure and set of conditions, in the order of the first report that has it."""
    found: dict[str, Line] = {}
    several = any(sum(isinstance(artifact, Report) for artifact in artifacts.values()) > 1 for artifacts in made)
    for place, (run, artifacts) in enumerate(zip(ids, made, strict=True)):
        for stage, report in artifacts.items():
            if isinstance(report, Report):
                results = json.loads(report.path("results.json").read_text(encoding="utf-8"))
                for row in results["rows"]:
                    settings = _settled(results["protocols"].get(row["protocol"], {}), report)
                    conditions = {"protocol": row["protocol"], "version": row["version"], "settings": settings, "split": row["split"]}
                    same = json.dumps([stage if several else "", row["model"], row["measure"], conditions], sort_keys=True)
                    line = found.setdefault(same, Line(stage, row["model"], row["measure"], conditions, [None] * len(ids)))
                    line.numbers[place] = Measured(run, f"{row['model']}/{row['measure']}", row, report)
    yield from found.values()


def _settled(protocol: Mapping[str, Any], report: Artifact) -> dict[str, Any]:
    """A protocol's settings; a data set that it names is its manifest."""
    return {key: report.manifests.get(value, value) if isinstance(value, str) else value for key, value in protocol.items() if key != "kind"}


def apart(found: Sequence[Line]) -> Iterator[str]:
    """Why what has the same name is on lines of its own, alike protocols in one sentence."""
    under: dict[tuple[str, str, str], list[Line]] = {}
    for line in found:
        under.setdefault((line.model, line.measure, ""), []).append(line)
    why: dict[str, list[str]] = {}
    for twins in under.values():
        if len(twins) > 1:
            first = twins[0].conditions
            for other in twins[1:]:
                for reason in _unlike(first, other.conditions):
                    named = why.setdefault(reason, [])
                    if first["protocol"] not in named:
                        named.append(first["protocol"])
    for reason, protocols in why.items():
        yield f"{', '.join(protocols)}: {reason}; these numbers do not compare and are on lines of their own"


def _unlike(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    if first["version"] != second["version"]:
        yield f"judged by {first['version']} and by {second['version']}"
    if first["split"] != second["split"]:
        yield f"judged on the splits {first['split'][:_SHORT]} and {second['split'][:_SHORT]}"
    mine, others = dict(flatten(first["settings"])), dict(flatten(second["settings"]))
    for key in dict.fromkeys((*mine, *others)):
        if mine.get(key) != others.get(key):
            yield f"{key} is {_told(mine.get(key))} and {_told(others.get(key))}"


def _told(value: Any) -> str:
    return "not set" if value is None else str(value)[:60]


def differences(line: Line) -> "Iterator[Difference | None]":
    """Each number against the first of its line."""
    first = next(number for number in line.numbers if number is not None)
    for number in line.numbers:
        if number is None or number is first:
            yield None
        else:
            from ssl_tasks.evaluate.comparing import compared, of_seeds

            other_draws = number.items is None and number.report.config["seed"] != first.report.config["seed"]
            yield of_seeds(number.values, first.values) if other_draws and len(number.values) > 1 else compared(number, first)


def raised(found: Sequence[Line]) -> list[list[float | None]]:
    """The p of each line's differences, raised for the number of all tests as Holm does."""
    tests = [d.p for line in found for d in line.differences if d]
    if not tests:
        return [[None] * len(line.differences) for line in found]
    from ssl_tasks.evaluate.comparing import holm

    following = iter(holm(tests))
    return [[next(following) if d else None for d in line.differences] for line in found]
