"""The report as files: figures as PNG, and one HTML page that needs nothing but itself."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.protocols.classifiers import Calibration
from ssl_tasks.evaluate import leaks, lineage, protocols, results
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.report import tables, words
from ssl_tasks.evaluate.report.palette import png
from ssl_tasks.evaluate.report.plates import plates
from ssl_tasks.evaluate.report.showcase import Showcase
from ssl_tasks.evaluate.report.story import Story
from ssl_tasks.evaluate.results import Role, Row
from ssl_tasks.report import template
from ssl_tasks.report.theme import DARK, LIGHT

GROUPS: dict[Role, str] = {
    "teacher": "Teacher",
    "student": "Distilled students",
    "alone": "The same networks, trained alone",
    "pretrained": "Pretrained",
    "pixels": "Baselines",
    "random": "Baselines",
}


@dataclass(frozen=True)
class Image:
    """A plate as it stands on the page: a data URI for each theme."""

    plate: Plate
    light: str
    dark: str
    width: int
    height: int


def write(folder: Path, story: Story, show: Showcase) -> None:
    """Write `figures/*.png` and `report.html` into a report's folder."""
    (folder / "figures").mkdir(parents=True)
    images = []
    for plate in plates(story, show):
        light = png(plate.draw(LIGHT))
        (folder / "figures" / f"{plate.name}.png").write_bytes(light)
        images.append(Image(plate, _uri(light), _uri(png(plate.draw(DARK))), *_size(light)))
    (folder / "report.html").write_text(page(story, images), encoding="utf-8")


def page(story: Story, images: Sequence[Image]) -> str:
    """The HTML of the report: no script, no request."""
    split = story.results["split"]
    labelled = bool(split["classes"] and split["queries"])
    return template(Path(__file__).parent).render(
        story=story,
        job=story.job,
        lead=words.lead(story.rows, story.students, story.titles),
        caveat=words.caveat(story.stage.seed, split["queries"], labelled, max([1, *(entry["seeds"] for entry in story.students)])),
        leaking=[*story.results["notes"], *leaks.warnings(story.leaks), *leaks.label_warnings(story.stage.dataset, story.results["label_leaks"])],
        remarks=leaks.remarks(story.leaks),
        cards=_cards(story) if labelled else [],
        facts=_facts(story),
        columns=story.titles,
        groups=_groups(story),
        students=tables.students(story),
        intervals=tables.intervals(story),
        costs=tables.costs(story),
        skipped=results.skips(story.results["skipped"]),
        sections={name: [i for i in images if i.plate.section == name] for name in ("results", "looks", "curation")},
        protocols=[
            (words.title(n, p), p, protocols.module(p).meaning(p)) for n, p in zip(results.names(story.stage.protocols), story.stage.protocols, strict=True)
        ],
        held=words.held(split["held"], split["held_out"]) if any(isinstance(p, Calibration) for p in story.stage.protocols) else "",
        commit=story.job.environment.get("git_commit", "").removesuffix("-dirty"),
        environment=dict(sorted(story.job.environment.items())),
        loadable=[(name, m) for name, m in story.models.items() if story.roles[name] == "student"] or list(story.models.items())[:1],
    )


def _facts(story: Story) -> dict[str, str]:
    split = story.results["split"]
    facts = {"test images": f"{split['queries']:,}", "train images": f"{split['train']:,}", "classes": str(split["classes"] or "no labels")}
    return facts | {"seed": str(story.stage.seed), "split": split["id"][:8], "data": story.job.data_version[:8] or "not versioned"}


def _groups(story: Story) -> list[tuple[str, list[dict[str, Any]]]]:
    """The result table: groups of models, each model with a cell a protocol; the best of a column is marked where more is better."""
    found = {(row.model, row.measure): row for row in story.rows}
    better = {m: METRICS[story.metrics[m]].better for m in story.titles}
    best = {m: max(row.value * better[m] for row in story.rows if row.measure == m) for m in story.titles}
    groups: dict[str, list[dict[str, Any]]] = {}
    for title in GROUPS.values():
        groups.setdefault(title, [])
    for name, role in story.roles.items():
        cells = []
        for measure in story.titles:
            if row := found.get((name, measure)):
                marked = better[measure] != 0 and row.value * better[measure] == best[measure]
                cells.append({"value": words.amount(row), "spread": words.spread(row), "best": marked, "of": _of(row)})
            else:
                cells.append({"value": "", "spread": "", "best": False, "of": ""})
        any_row = next((row for row in story.rows if row.model == name), None)
        budget = story.results["budget"].get(name, {})
        groups[GROUPS[role]].append(
            {
                "name": name,
                "what": _what(story, name, role, any_row),
                "style": story.styles[name],
                "cells": cells,
                "parameters": words.big(any_row.parameters) if any_row and any_row.parameters else "",
                "images_seen": words.big(budget["images_seen"]) if "images_seen" in budget else "",
                "epochs": f"{budget['epochs']:g}" if "epochs" in budget else "",
                "seconds": words.duration(budget["seconds"]) if "seconds" in budget else "",
            }
        )
    return [(title, rows) for title, rows in groups.items() if rows]


def _of(row: Row) -> str:
    return f"of {row.dim}" if row.metric == "effective_rank" else ""


def _what(story: Story, name: str, role: Role, row: Row | None) -> str:
    if role == "pixels" and row:
        return f"{row.dim:,} values in [0, 1]"
    if name not in story.models:
        return ""
    model = story.models[name]
    classes = f", {len(model.classes)} classes" if model.classes else ""
    return f"{lineage.encoder(model.encoder.model_dump())}, {model.dim}-d{classes}"


def _cards(story: Story) -> list[dict[str, Any]]:
    """A card a distilled student: its size, and where it stands between the same network alone and its teacher."""
    found = {(row.model, row.measure): row for row in story.rows}
    cards = []
    for entry in story.students:
        scored = [m for m in entry["measures"] if m in story.titles and story.metrics[m] == "accuracy"]
        if not scored:
            continue
        parts = [part for part in ("student_alone", "teacher", "distilled") if part in entry["measures"][scored[0]]]
        means = {(m, part): entry["measures"][m][part]["mean"] for m in scored for part in parts if part in entry["measures"][m]}
        low, high = max(0, math.floor(100 * min(means.values()) - 1)), 100
        first = {part: entry["models"][part][0] for part in parts}
        lines = []
        for measure in scored:
            marks = [
                {
                    "name": first[part], "value": words.number(means[measure, part], "accuracy"), "style": story.styles[first[part]],
                    "at": f"{(means[measure, part] * 100 - low) / (high - low) * 100:.1f}",
                }
                for part in parts if (measure, part) in means
            ]  # fmt: skip
            lines.append({"title": story.titles[measure], "marks": marks, "value": marks[-1]["value"]})
        own, teacher = (found[first[part], scored[0]].parameters if part in first else 0 for part in ("distilled", "teacher"))
        legend = [*(["empty: alone"] if "student_alone" in first else []), *([f"blue: {first['teacher']}"] if teacher else [])]
        of_teacher = f", {own / teacher:.{int(own < teacher / 100)}%} of {first['teacher']}" if teacher else ""
        cards.append(
            {
                "name": entry["name"], "style": story.styles[first["distilled"]], "lines": lines, "low": low, "high": high,
                "share": f"{min(own / teacher, 1) * 100:.1f}" if teacher else "100", "legend": "; ".join(legend),
                "size": f"{words.big(own)} parameters{of_teacher}" + (f", {entry['seeds']} seeds" if entry["seeds"] > 1 else ""),
            }
        )  # fmt: skip
    return cards


def _uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _size(image: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
