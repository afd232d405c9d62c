"""Tables of the report besides the results: what each student is worth, what models were given, how they fare, and what they cost."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.naming import group
from ssl_tasks.evaluate import lineage
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.report import matrix, showcase, words
from ssl_tasks.evaluate.report.story import Story
from ssl_tasks.evaluate.students import DELTAS, PARTS
from ssl_tasks.evaluate.students import costs as cost_of

COLUMNS: dict[str, str] = {
    "parameters": "parameters", "flops": "FLOPs", "megabytes": "MB", "latency_cpu": "ms an image", "throughput_cpu": "images/s",
    "latency_cuda": "ms an image, GPU", "throughput_cuda": "images/s, GPU",
}  # fmt: skip
TITLES = {
    "teacher": "teacher",
    "distilled": "distilled",
    "student_alone": "alone",
    "random_init": "random init",
    "distilled_minus_alone": "distilled minus alone",
    "distilled_minus_teacher": "distilled minus teacher",
}


def students(story: Story) -> list[dict[str, Any]]:
    """Of each family of protocols its title, heads of columns, and a block a student: a row for each of what it is held against, and for each delta."""
    told = []
    for title, measures in matrix.families(story):
        if blocks := _blocks(story, measures):
            told.append({"title": title, "columns": [story.titles[measure] for measure in measures], "blocks": blocks})
    return told


def _blocks(story: Story, measures: Sequence[str]) -> list[dict[str, Any]]:
    blocks = []
    for entry in story.students:
        own = [entry["measures"].get(measure, {}) for measure in measures]
        rows = []
        for part in (*PARTS, *DELTAS):
            if any(part in parts for parts in own):
                first = entry["models"][part if part in PARTS else "distilled"][0]
                shown = [_cell(parts.get(part), story.metrics[measure], part in DELTAS) for parts, measure in zip(own, measures, strict=True)]
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
    return {"value": told(estimate["mean"]), "interval": f"{told(low)}{' to ' if is_delta else words.EN_DASH}{told(high)}", "tone": tone}


def intervals(story: Story) -> str:
    """What the intervals of the students' table are over."""
    seeds = sorted({entry["seeds"] for entry in story.students})
    images = (
        "over the test images (Wilson where they are right or wrong, else bootstrap; of differences image by image, both models on the same): they say "
        "nothing of another training"
    )
    if not seeds or seeds == [1]:
        return f"One seed: 95% intervals are {images}."
    over = f"over {' or '.join(str(n) for n in seeds if n > 1)} seeds (Student's t)"
    return f"95% intervals of students are {over}; where there is one training, such as of a teacher, {images}."


def budgets(story: Story) -> list[dict[str, Any]]:
    """What each model's training was given: a row a model, empty where its artifact does not say."""
    rows = []
    for name, model in story.models.items():
        given = story.results["budget"].get(name, {})
        rows.append(
            {
                "name": name, "style": story.styles[name], "what": lineage.encoder(model.encoder.model_dump()), "method": lineage.method(model.config),
                "weights": story.results["checkpoints"][name],
                "epochs": f"{given['epochs']:g}" if "epochs" in given else "", "seen": words.big(given["images_seen"]) if "images_seen" in given else "",
            }
        )  # fmt: skip
    return rows


def health(story: Story) -> dict[str, Any]:
    """What the monitors saw at their last look at each training: columns, and a row a model that was looked at. Empty where none was."""
    looks: dict[str, dict[str, float]] = {}
    for name, model in story.models.items():
        seen = showcase.curves(model)
        if last := {quantity.removeprefix("monitor/"): values[-1] for quantity, (_, values) in seen.items() if quantity.startswith("monitor/")}:
            looks[name] = last
    columns = list(dict.fromkeys(quantity for last in looks.values() for quantity in last))
    rows = [{"name": name, "style": story.styles[name], "cells": [f"{last[c]:.3g}" if c in last else "" for c in columns]} for name, last in looks.items()]
    return {"columns": [column.replace("_", " ") for column in columns], "rows": rows} if rows else {}


def costs(story: Story) -> dict[str, Any]:
    """What models took to train and take to run: columns, and a row a model, whose seeds are one."""
    rows: dict[str, dict[str, Any]] = {}
    for name in story.models:
        if group(name) not in rows:
            members = {other for other in story.models if group(other) == group(name)}
            size = next((row.parameters for row in story.rows if row.model in members), None)
            took = [story.results["budget"].get(other, {}) for other in members]
            seconds, joules = ([given[what] for given in took if what in given] for what in ("seconds", "joules"))
            cost = ({} if size is None else {"parameters": size}) | cost_of(story.rows, members)
            trained = words.duration(statistics.fmean(seconds)) if seconds else ""
            what = lineage.encoder(story.models[name].encoder.model_dump())
            energy = words.energy(statistics.fmean(joules)) if joules else ""
            rows[group(name)] = {"name": group(name), "what": what, "style": story.styles[name], "trained": trained, "energy": energy, "cost": cost}
    shown = [metric for metric in COLUMNS if any(metric in row["cost"] for row in rows.values())]
    metered = any(row["energy"] for row in rows.values())
    for row in rows.values():
        row["cells"] = [row["trained"], *[row["energy"]] * metered, *(_price(metric, row["cost"].get(metric)) for metric in shown)]
    columns = ["training", *["energy"] * metered, *(COLUMNS[metric] for metric in shown)]
    return {"columns": columns, "metered": metered, "rows": list(rows.values()), "devices": story.results["timed_on"]}


def _price(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    if metric in ("parameters", "flops") or value >= 1000:
        return words.big(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
