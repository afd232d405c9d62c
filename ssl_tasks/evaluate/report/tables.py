"""Tables of the report: what each student is worth, and what models take to run."""

from collections.abc import Mapping
from typing import Any

from ssl_tasks.evaluate import lineage
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.report import words
from ssl_tasks.evaluate.report.story import Story
from ssl_tasks.evaluate.students import DELTAS, PARTS, group
from ssl_tasks.evaluate.students import costs as cost_of

COLUMNS: dict[str, str] = {
    "parameters": "parameters", "flops": "FLOPs", "megabytes": "MB", "latency_cpu": "ms an image", "throughput_cpu": "images/s",
    "latency_cuda": "ms an image, GPU", "throughput_cuda": "images/s, GPU",
}  # fmt: skip
EN_DASH = "\N{EN DASH}"
TITLES = {
    "teacher": "teacher",
    "distilled": "distilled",
    "student_alone": "alone",
    "random_init": "random init",
    "distilled_minus_alone": "distilled minus alone",
    "distilled_minus_teacher": "distilled minus teacher",
}


def students(story: Story) -> list[dict[str, Any]]:
    """A block a student: a row for each of what it is held against, and one for each delta, with a cell a measure."""
    blocks = []
    for entry in story.students:
        rows = []
        for part in (*PARTS, *DELTAS):
            if any(part in parts for parts in entry["measures"].values()):
                first = entry["models"][part if part in PARTS else "distilled"][0]
                shown = [_cell(entry["measures"].get(measure, {}).get(part), story.metrics[measure], part in DELTAS) for measure in story.titles]
                rows.append({"part": part, "title": TITLES[part], "style": story.styles[first], "cells": shown, "models": _models(entry, part)})
        if rows:
            seeds = f"{entry['seeds']} seeds" if entry["seeds"] > 1 else ""
            blocks.append({"name": entry["name"], "seeds": seeds, "rows": rows})
    return blocks


def _models(entry: Mapping[str, Any], part: str) -> str:
    """Which models a row is of, where its title and the student's name do not say it."""
    names = dict.fromkeys(group(name) for name in entry["models"].get(part, ()))
    return ", ".join(names) if part in ("teacher", "student_alone") and list(names) != [TITLES[part]] else ""


def _cell(estimate: Mapping[str, Any] | None, metric: str, is_delta: bool) -> dict[str, str]:
    if estimate is None:
        return {"value": "", "interval": "", "tone": ""}
    scale, decimals = words.scale(metric), METRICS[metric].decimals

    def told(value: float) -> str:
        return words.signed(value * scale, decimals) if is_delta else words.number(value, metric)

    if "low" not in estimate:
        return {"value": told(estimate["mean"]), "interval": "", "tone": ""}
    low, high = estimate["low"], estimate["high"]
    worth = (low > 0) - (high < 0) if is_delta else 0
    tone = {1: "up", -1: "down", 0: ""}[worth * METRICS[metric].better]
    return {"value": told(estimate["mean"]), "interval": f"{told(low)}{' to ' if is_delta else EN_DASH}{told(high)}", "tone": tone}


def intervals(story: Story) -> str:
    """What the intervals of the students' table are over."""
    seeds = sorted({entry["seeds"] for entry in story.students})
    images = (
        "over the test images (Wilson; of differences Newcombe, as if images were drawn anew for each model, which overstates it): they say nothing of "
        "another training"
    )
    if not seeds or seeds == [1]:
        return f"One seed: 95% intervals are {images}."
    over = f"over {' or '.join(str(n) for n in seeds if n > 1)} seeds (Student's t)"
    return f"95% intervals of students are {over}; where there is one training, such as of a teacher, {images}."


def costs(story: Story) -> dict[str, Any]:
    """What models take to run: columns, and a row a model; the same networks trained alone are left out. Empty without the protocol."""
    rows: dict[str, dict[str, Any]] = {}
    for name in story.models:
        if story.roles[name] != "alone" and group(name) not in rows:
            members = {other for other in story.models if group(other) == group(name)}
            if found := cost_of(story.rows, members):
                what = lineage.encoder(story.models[name].encoder.model_dump())
                rows[group(name)] = {"name": group(name), "what": what, "style": story.styles[name], "cost": found}
    shown = [metric for metric in COLUMNS if any(metric in row["cost"] for row in rows.values())]
    for row in rows.values():
        row["cells"] = [_price(metric, row["cost"].get(metric)) for metric in shown]
    return {"columns": [COLUMNS[metric] for metric in shown], "rows": list(rows.values()), "devices": story.results["timed_on"]} if rows else {}


def _price(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    if metric in ("parameters", "flops") or value >= 1000:
        return words.big(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
