"""The result tables: models by measures, each cell with its interval; a table a family of protocols where there are many."""

from collections.abc import Mapping, Sequence
from typing import Any

from ssl_tasks.evaluate import comparing, lineage, protocols
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.report import words
from ssl_tasks.evaluate.report.story import Story
from ssl_tasks.evaluate.results import Role, Row, names

MOST = 8
"""Columns that one table may have; of more each family of protocols gets a table of its own."""
GROUPS: dict[Role, str] = {
    "teacher": "Teacher",
    "student": "Distilled students",
    "alone": "The same networks, trained alone",
    "pretrained": "Pretrained",
    "pixels": "Baselines",
    "random": "Baselines",
}
FAMILIES = {
    "frozen": "Frozen features",
    "adaptation": "Adapted to the task",
    "classifiers": "As classifiers",
    "grouping": "Clusters, retrieval and copies",
    "dense": "Patch features",
    "label_free": "Without labels",
    "robustness": "Robustness",
}
Found = Mapping[tuple[str, str], Row]


def families(story: Story) -> list[tuple[str, list[str]]]:
    """Measures that stand in one table, with its title: all of them, without a title, where they are few."""
    titles = story.titles
    if len(titles) <= MOST:
        return [("", list(titles))] if titles else []
    family = {name: protocols.JUDGES[type(p)].partition(".")[0] for name, p in zip(names(story.stage.protocols), story.stage.protocols, strict=True)}
    of = {row.measure: family[row.protocol] for row in story.rows}
    return [(title, measures) for kind, title in FAMILIES.items() if (measures := [m for m in titles if of[m] == kind])]


def tables(story: Story) -> list[dict[str, Any]]:
    """Of each family the title, the heads of its columns, and groups of models with a cell a column."""
    return [_table(title, measures, story) for title, measures in families(story)]


def what(story: Story, name: str, role: Role, row: Row | None) -> str:
    """A model's network in words."""
    if role == "pixels" and row:
        return f"{row.dim:,} values in [0, 1]"
    if name not in story.models:
        return ""
    model = story.models[name]
    classes = f", {len(model.classes)} classes" if model.classes else ""
    return f"{lineage.encoder(model.encoder.model_dump())}, {model.dim}-d{classes}"


def _table(title: str, measures: Sequence[str], story: Story) -> dict[str, Any]:
    found = {(row.model, row.measure): row for row in story.rows}
    best = {measure: _best(measure, story) for measure in measures}
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, role in story.roles.items():
        rows = [found.get((name, measure)) for measure in measures]
        if any(rows):
            cells = [_cell(row, best[measure]) for row, measure in zip(rows, measures, strict=True)]
            leaks = name in story.leaks and story.leaks[name].train_images > 0
            said = what(story, name, role, next((row for row in rows if row), None))
            groups.setdefault(GROUPS[role], []).append({"name": name, "what": said, "style": story.styles[name], "cells": cells, "leaks": leaks})
    ordered = [(group, groups[group]) for group in dict.fromkeys(GROUPS.values()) if group in groups]
    return {"title": title, "columns": [story.titles[measure] for measure in measures], "groups": ordered}


def _best(measure: str, story: Story) -> Row | None:
    """The row that reaches most; None where less may be better or worse, or there is one row."""
    rows = [row for row in story.rows if row.measure == measure]
    better = METRICS[rows[0].metric].better
    return max(rows, key=lambda row: row.value * better) if better and len(rows) > 1 else None


def _cell(row: Row | None, best: Row | None) -> dict[str, str]:
    """A number as it is shown, with its interval, and how it stands to the best: `best`, `near` where their difference is within noise, or neither."""
    if row is None:
        return {"value": "", "spread": "", "interval": "", "of": "", "stands": ""}
    interval = f"{words.number(row.interval.low, row.metric)}{words.EN_DASH}{words.number(row.interval.high, row.metric)}" if row.interval else ""
    of = f"of {row.dim}" if row.metric == "effective_rank" else ""
    return {"value": words.amount(row), "spread": words.spread(row), "interval": interval, "of": of, "stands": _stands(row, best)}


def _stands(row: Row, best: Row | None) -> str:
    if best is None:
        return ""
    if row.value == best.value:
        return "best"
    difference = comparing.compared(best, row)
    return "near" if difference and difference.within_noise else ""
