"""Comparing runs: which settings differ, which numbers differ, and which of these may stand side by side at all.

Numbers stand side by side under the same conditions alone: the same version of a protocol with the same settings, on the same split of
the same images. Where reports keep the score of each item, two runs are compared item by item; see `ssl_tasks/evaluate/comparing.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from schemas.artifacts import Report
from schemas.errors import UserError
from workflows.engine import ledger
from workflows.engine.comparing import numbers, settings
from workflows.engine.comparing.numbers import Line
from workflows.engine.comparing.settings import Setting


@dataclass(frozen=True)
class Comparison:
    """What several runs differ in.

    Attributes:
        runs: records of the ledger, as they were asked for.
        lines: numbers that are not the same in all runs.
        same: how many are.
        apart: why numbers are not side by side, a sentence each.
        p: of each line and run the p of its difference, raised for the number of tests as Holm does.
    """

    runs: list[dict[str, Any]]
    settings: list[Setting]
    lines: list[Line]
    same: int
    apart: list[str]
    p: list[list[float | None]]

    def as_json(self) -> dict[str, Any]:
        """One JSON document."""
        ids = [run["id"] for run in self.runs]
        facts = ("id", "pipeline", "status", "started", "seconds")
        judged = [
            {
                "stage": line.stage, "model": line.model, "measure": line.measure, **line.conditions,
                "numbers": [number and number.as_json() for number in line.numbers],
                "differences": [
                    d and {"run": run, "difference": d.mean, "low": d.low, "high": d.high, "p": p, "how": d.how}
                    for run, d, p in zip(ids, line.differences, raised, strict=True)
                ],
            }
            for line, raised in zip(self.lines, self.p, strict=True)
        ]  # fmt: skip
        keys = [{"key": s.key, "values": dict(zip(ids, s.values, strict=True))} for s in self.settings]
        runs = [{fact: run.get(fact) for fact in facts} for run in self.runs]
        return {"runs": runs, "config": keys, "numbers": judged, "same_numbers": self.same, "not_comparable": self.apart}


def compare(workspace: Path, names: Sequence[str]) -> Comparison:
    """Compare runs.

    Args:
        names: ids of runs or the start of them, `latest`, or pipelines, whose newest run with a report is taken.

    Raises:
        UserError: where a name stands for no run or for several, a run has no report, or fewer than two runs are named.
    """
    records = list(ledger.runs(workspace))
    chosen = [_run(workspace, records, name) for name in names]
    if len({run["id"] for run in chosen}) < 2:
        told = f"{', '.join(names)} {'are the same run' if len(names) > 1 else 'is one run'}: {chosen[0]['id']}" if chosen else "no run is named"
        raise UserError(f"{told}; name two or more that differ, `sslflow runs` lists them")
    if len({run["id"] for run in chosen}) < len(chosen):
        raise UserError(f"a run stands twice: {', '.join(run['id'] for run in chosen)}; name each once")
    made = [ledger.artifacts(workspace, run) for run in chosen]
    for run, artifacts in zip(chosen, made, strict=True):
        if not any(isinstance(artifact, Report) for artifact in artifacts.values()):
            raise UserError(f"run {run['id']} has no report: {_why_none(run)}")
    lines = list(numbers.lines([run["id"] for run in chosen], made))
    told_apart = list(numbers.apart(lines))
    differing = [line for line in lines if not line.same]
    for line in differing:
        line.differences.extend(numbers.differences(line))
    return Comparison(chosen, list(settings.settings(chosen, made)), differing, len(lines) - len(differing), told_apart, numbers.raised(differing))


def _run(workspace: Path, records: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    if name == "latest" and records:
        return records[0]
    found = [run for run in records if name and run["id"].startswith(name)]
    if len(found) > 1:
        ids = [run["id"] for run in found]
        raise UserError(f"'{name}' stands for several runs: {', '.join(ids[:5])}{' ...' if len(ids) > 5 else ''}; give more of it")
    if not found:
        of_pipeline = [run for run in records if run["pipeline"] == name]
        found = [run for run in of_pipeline if any(isinstance(a, Report) for a in ledger.artifacts(workspace, run).values())] or of_pipeline
    if not found:
        near = get_close_matches(name, [run["id"] for run in records] + sorted({run["pipeline"] for run in records}), n=3, cutoff=0.5)
        raise UserError(f"no run '{name}' in {workspace / ledger.RUNS}; {'nearest: ' + ', '.join(near) if near else '`sslflow runs` lists the runs'}")
    return found[0]


def _why_none(run: Mapping[str, Any]) -> str:
    judging = {name: stage for name, stage in run["stages"].items() if stage.get("kind") == "evaluate"}
    if not judging:
        return "its pipeline has no evaluate stage"
    return ", ".join(f"its stage '{name}' is {stage['status']}" for name, stage in judging.items()) + ", or its artifact was removed"
