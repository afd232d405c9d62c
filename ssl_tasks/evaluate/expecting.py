"""The gate: which expectations of a stage its numbers do not meet, in lines that give the number and its interval."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.errors import UserError, did_you_mean
from schemas.expectations import Expectation, expectations
from schemas.naming import group, names
from schemas.stages import Evaluate
from ssl_tasks.evaluate.intervals import Interval, over_seeds
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.results import Role, Row, possible

PASSED_OVER = ("pixels", "random", "alone")


def check(stage: Evaluate, name: str) -> None:
    """Refuse before any work a metric that no protocol gives.

    Args:
        name: of the stage.

    Raises:
        UserError: then.
    """
    for key, asked in zip(stage.expect, expectations(stage.expect, names(stage.protocols)), strict=True):
        if asked.metric and asked.metric not in METRICS:
            hint = did_you_mean(asked.metric, METRICS) or f"there are: {', '.join(METRICS)}"
            raise UserError(f"stages.{name}.expect: '{key}' asks for a metric that there is not; {hint}")


def held(stage: Evaluate, rows: Sequence[Row], roles: Mapping[str, Role], skipped: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Of each expectation and model whether it is met: `value`, with `low` and `high` where they can be told, `met`, and `line` for a reader.

    Args:
        skipped: as `judging.Judgement` has it.
    """
    found = []
    for key, asked in zip(stage.expect, expectations(stage.expect, names(stage.protocols)), strict=True):
        models = _models(asked, rows, roles)
        for model, of in models.items():
            found.append({"expected": key, "bound": asked.bound, "model": model, **_held(asked, model, of)})
        if not models:
            line = f"{_measure(asked)}{f' of {asked.model}' if asked.model else ''} is not there, where {asked.bound} is expected{_why(asked, rows, skipped)}"
            found.append({"expected": key, "bound": asked.bound, "model": asked.model, "value": None, "met": False, "line": line})
    return found


def broken(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a model and expectation that is not met."""
    return [entry["line"] for entry in entries if not entry["met"]]


def _models(asked: Expectation, rows: Sequence[Row], roles: Mapping[str, Role]) -> dict[str, list[Row]]:
    """The rows that an expectation is about, by model; those of several seeds together unless one of them is named."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        mine = row.protocol == asked.protocol and (row.metric == asked.metric if asked.metric else METRICS[row.metric].main)
        if mine and asked.model == row.model:
            return {row.model: [row]}
        if mine and (asked.model == group(row.model) if asked.model else roles[row.model] not in PASSED_OVER):
            found.setdefault(group(row.model), []).append(row)
    return found


def _held(asked: Expectation, model: str, rows: Sequence[Row]) -> dict[str, Any]:
    value = statistics.fmean(row.value for row in rows)
    interval: Interval | None = over_seeds([row.value for row in rows]) if len(rows) > 1 else rows[0].interval
    interval = possible(interval, rows[0].metric) if interval else None
    ends = f" (95%: {interval.low:.4g} to {interval.high:.4g})" if interval else ""
    mean = f", the mean of {len(rows)} seeds," if len(rows) > 1 else ""
    line = f"{_measure(asked)} of {model}{mean} is {value:.4g}{ends} where {asked.bound} is expected"
    sure = {"low": interval.low, "high": interval.high, "over": interval.over} if interval else {}
    return {"value": value, **sure, "met": asked.is_met(value), "line": line}


def _measure(asked: Expectation) -> str:
    return asked.protocol + (f".{asked.metric}" if asked.metric and not METRICS[asked.metric].main else "")


def _why(asked: Expectation, rows: Sequence[Row], skipped: Mapping[str, Mapping[str, str]]) -> str:
    reasons = skipped.get(asked.protocol, {})
    told = [f"{model} {why}" for model, why in reasons.items() if not asked.model or group(model) == asked.model or model == asked.model]
    given = dict.fromkeys(row.metric for row in rows if row.protocol == asked.protocol)
    if told:
        return f": {'; '.join(told)}"
    return f"; {asked.protocol} gives {', '.join(f'{asked.protocol}.{metric}' for metric in given)}" if given else ""
