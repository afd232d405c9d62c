"""The result tables: models by measures, each cell with its interval; a table a family of protocols where there are many."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.naming import group
from ssl_tasks.evaluate import lineage, protocols
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
    """All seeds of a model are one line of the table: their mean, with its interval over seeds."""
    seeds = {entry["name"]: entry for entry in story.results["summaries"]}
    stands = _stands(story)
    members: dict[str, list[str]] = {}
    for name in story.roles:
        members.setdefault(group(name), []).append(name)
    groups: dict[str, list[dict[str, Any]]] = {}
    for called, names_of_it in members.items():
        own = [row for row in story.rows if row.model in names_of_it]
        cells = []
        for measure in measures:
            rows = [row for row in own if row.measure == measure]
            told = _mean(seeds[called]["measures"][measure]) if len(rows) > 1 else _one(rows[0]) if rows else {"value": ""}
            cells.append({**_EMPTY, **told, "stands": stands.get((called, measure), "")})
        if any(cell["value"] for cell in cells):
            role = story.roles[names_of_it[0]]
            leaks = any(name in story.leaks and story.leaks[name].train_images for name in names_of_it)
            said = [f"{len(names_of_it)} seeds"] * (len(names_of_it) > 1) + [what(story, names_of_it[0], role, own[0] if own else None)]
            groups.setdefault(GROUPS[role], []).append(
                {"name": called, "what": ", ".join(filter(None, said)), "style": story.styles[names_of_it[0]], "cells": cells, "leaks": leaks}
            )
    ordered = [(group_title, groups[group_title]) for group_title in dict.fromkeys(GROUPS.values()) if group_title in groups]
    return {"title": title, "columns": [story.titles[measure] for measure in measures], "groups": ordered}


_EMPTY = {"spread": "", "interval": "", "of": ""}


def _one(row: Row) -> dict[str, str]:
    """A number as it is shown, with its interval."""
    interval = _interval(row.interval.low, row.interval.high, row.metric) if row.interval else ""
    return {
        "value": words.amount(row).replace("-", words.MINUS),
        "spread": words.spread(row),
        "interval": interval,
        "of": f"of {row.dim}" if row.metric == "effective_rank" else "",
    }


def _mean(entry: Mapping[str, Any]) -> dict[str, str]:
    """The mean over seeds as it is shown, with its standard deviation and interval."""
    metric = entry["metric"]
    interval = _interval(entry["low"], entry["high"], metric)
    return {"value": words.number(entry["mean"], metric), "spread": words.number(entry["std"], metric), "interval": interval}


def _interval(low: float, high: float, metric: str) -> str:
    between = " to " if low < 0 else words.EN_DASH
    return f"{words.number(low, metric)}{between}{words.number(high, metric)}".replace("-", words.MINUS)


def _stands(story: Story) -> dict[tuple[str, str], str]:
    """Of each model and measure how it stands to the best: `best`, or `near` where their difference is within noise."""
    found = {}
    for entry in story.results["differences"]:
        found[entry["best"], entry["measure"]] = "best"
        if entry["within_noise"]:
            found[entry["model"], entry["measure"]] = "near"
    return found
