"""What an evaluation says of models as a whole: means over seeds, and which differences are more than noise. Plain data, no models."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.naming import group
from ssl_tasks.evaluate.comparing import NOISE, Difference, compared, holm, of_seeds
from ssl_tasks.evaluate.intervals import over_seeds
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.results import Row, possible

TESTS = (
    "Of each measure the best model is tested against every other, p-values raised by Holm's method over these tests; those of students against "
    "their teacher and the same network alone are planned comparisons and stand as they are. Within noise: p above 0.05. Intervals hold 95% each."
)


def summaries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry a model that is there under several seeds: of each measure mean, standard deviation and 95% interval over these."""
    return [
        {"name": name, "seeds": len({row.model for row in each}), "models": list(dict.fromkeys(row.model for row in each)), "measures": _measures(each)}
        for name, each in _groups(rows).items()
        if len({row.model for row in each}) > 1
    ]


def _measures(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    return {measure: _over_seeds(each) for measure, each in _by_measure(rows).items() if len(each) > 1}


def _over_seeds(rows: Sequence[Row]) -> dict[str, Any]:
    values = [row.value for row in rows]
    found = over_seeds(values)
    assert found
    ends = possible(found, rows[0].metric)._asdict()
    return {"metric": rows[0].metric, "mean": statistics.fmean(values), "std": statistics.stdev(values), **ends, "values": values}


def differences(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Of each measure of quality that tables show the best model, or model with its seeds, less each other one: what is within noise, and by which test.

    `p_holm` is the p that counts: that of the test, raised for how many models the best one is held against.
    """
    found = []
    for measure, each in _by_measure(rows).items():
        facts = METRICS[each[0].metric]
        if facts.quality and facts.shown and facts.better:
            contenders = _groups(each)
            best = max(contenders, key=lambda name: facts.better * statistics.fmean(row.value for row in contenders[name]))
            tests = {name: test for name in contenders if name != best and (test := _difference(contenders[best], contenders[name]))}
            for (name, test), p in zip(tests.items(), holm([test.p for test in tests.values()]), strict=True):
                told = {"measure": measure, "metric": each[0].metric, "best": best, "model": name}
                ends = {"low": max(test.low, facts.least - facts.most), "high": min(test.high, facts.most - facts.least)}
                found.append(test.as_json() | told | ends | {"p_holm": p, "within_noise": p > NOISE})
    return found


def _difference(first: Sequence[Row], second: Sequence[Row]) -> Difference | None:
    if len(first) == len(second) == 1:
        return compared(first[0], second[0])
    return of_seeds([row.value for row in first], [row.value for row in second])


def flat(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of models with several seeds: `teacher/knn` is their mean, `teacher/knn/std`, `/low` and `/high` say how sure it is."""
    metrics: dict[str, float] = {}
    for entry in entries:
        for measure, found in entry["measures"].items():
            name = f"{entry['name']}/{measure}"
            metrics |= {name: found["mean"], **{f"{name}/{part}": found[part] for part in ("std", "low", "high")}}
    return metrics


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(group(row.model), []).append(row)
    return found


def _by_measure(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.measure, []).append(row)
    return found
