"""What each student is worth: beside its teacher, the same network trained alone, and the same network untrained. Plain data, no models."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from schemas.naming import group
from schemas.stages import Comparison
from ssl_tasks.evaluate.comparing import compared, of_pairs
from ssl_tasks.evaluate.intervals import Interval, over_seeds
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.results import Row

PARTS = ("teacher", "distilled", "student_alone", "random_init")
DELTAS = {"distilled_minus_alone": "student_alone", "distilled_minus_teacher": "teacher"}

Found = Mapping[tuple[str, str], Row]


def students(rows: Sequence[Row], comparisons: Sequence[Comparison], untrained: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry a student, with all of its seeds: of each measure what it reaches distilled, its teacher, alone, untrained, and both deltas.

    A number is `mean` and `values`, and where it can be told `low`, `high` and `over`: 95% over seeds, or over test images. A delta
    also has `p`, `within_noise` and `how` it was tested.

    Args:
        untrained: of each model the name of its baseline at random initialisation, which need not be among the rows.
    """
    found = {(row.model, row.measure): row for row in rows}
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(group(comparison.student), []).append(comparison)
    return [_student(name, members, found, untrained) for name, members in groups.items()]


def _student(name: str, members: Sequence[Comparison], found: Found, untrained: Mapping[str, str]) -> dict[str, Any]:
    models: dict[str, list[str | None]] = {
        "teacher": [c.teacher for c in members],
        "distilled": [c.student for c in members],
        "student_alone": [c.alone for c in members],
        "random_init": [untrained.get(c.student) for c in members],
    }
    measures = [row.measure for (model, _), row in found.items() if model == members[0].student and METRICS[row.metric].quality]
    return {
        "name": name,
        "seeds": len(members),
        "models": {part: list(dict.fromkeys(model for model in models[part] if model)) for part in PARTS},
        "measures": {measure: _measure(measure, models, found) for measure in measures},
        "cost": {part: cost for part in PARTS if (cost := costs(list(found.values()), set(models[part])))},
    }


def _measure(measure: str, models: Mapping[str, Sequence[str | None]], found: Found) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for part, names in models.items():
        if once := [found[name, measure] for name in dict.fromkeys(names) if name and (name, measure) in found]:
            first = once[0]
            entry[part] = _estimate([row.value for row in once], first.interval, METRICS[first.metric].least, METRICS[first.metric].most)
    for delta, other in DELTAS.items():
        paired = [(found.get((a or "", measure)), found.get((b or "", measure))) for a, b in zip(models["distilled"], models[other], strict=True)]
        if pairs := [(a, b) for a, b in paired if a and b]:
            entry[delta] = _difference(pairs)
    return entry


def _difference(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    """Over seeds, each against its own; of one seed as `comparing.compared`. With the test of whether it is within noise, where there is one."""
    first, second = pairs[0]
    test = compared(first, second) if len(pairs) == 1 else of_pairs([a.value for a, _ in pairs], [b.value for _, b in pairs], "seeds")
    most = METRICS[first.metric].most
    interval = Interval(test.low, test.high, test.over) if test else None
    estimate = _estimate([a.value - b.value for a, b in pairs], interval, -most, most)
    return estimate | ({"p": test.p, "within_noise": test.within_noise, "how": test.how} if test else {})


def _estimate(values: Sequence[float], alone: Interval | None, least: float, most: float) -> dict[str, Any]:
    """A number of several seeds, or of one; then with the interval that it has by itself, where there is one. No interval leaves what is possible."""
    interval = over_seeds(values) if len(values) > 1 else alone
    ends = {"low": max(interval.low, least), "high": min(interval.high, most), "over": interval.over} if interval else {}
    return {"mean": statistics.fmean(values), "values": list(values), **ends}


def costs(rows: Sequence[Row], names: Collection[str | None]) -> dict[str, float]:
    """What one of the models takes; of times the mean over all of them, which are one network under several seeds."""
    each: dict[str, list[float]] = {}
    for row in rows:
        if row.model in names and not METRICS[row.metric].quality:
            each.setdefault(row.metric, []).append(row.value)
    return {metric: statistics.fmean(values) for metric, values in each.items()}


def flat(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of students with several seeds: `students.small/knn` is their mean, `students.small/knn/low` an end of its interval."""
    metrics: dict[str, float] = {}
    for entry in (e for e in entries if e["seeds"] > 1):
        for measure, parts in entry["measures"].items():
            for part in ("distilled", *DELTAS):
                name = f"{entry['name']}/{measure}" + ("" if part == "distilled" else f"/{part}")
                ends = {f"{name}/{end}": parts[part][end] for end in ("low", "high") if part in parts and end in parts[part]}
                metrics |= ({name: parts[part]["mean"]} if part in parts else {}) | ends
    return metrics
