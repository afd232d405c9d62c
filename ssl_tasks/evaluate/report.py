"""The report as files: figures as PNG, and one HTML page that needs nothing but itself."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_tasks.evaluate import leaks, lineage, words
from ssl_tasks.evaluate.palette import png
from ssl_tasks.evaluate.plates import Plate, plates
from ssl_tasks.evaluate.results import Role, Row
from ssl_tasks.evaluate.showcase import Showcase
from ssl_tasks.evaluate.story import Story
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
        lead=words.lead(story.rows, story.deltas, story.titles),
        caveat=words.caveat(story.stage.seed, split["queries"], labelled),
        leaking=[*leaks.warnings(story.leaks), *leaks.label_warnings(story.stage.dataset, story.results["label_leaks"])],
        remarks=leaks.remarks(story.leaks),
        cards=_cards(story) if labelled else [],
        facts=_facts(story),
        columns=story.titles,
        groups=_groups(story),
        deltas=_deltas(story),
        sections={name: [i for i in images if i.plate.section == name] for name in ("results", "looks", "curation")},
        protocols=[(story.titles[n], p, words.meaning(p)) for n, p in zip(story.titles, story.stage.protocols, strict=True)],
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
    found = {(row.model, row.protocol): row for row in story.rows}
    best = {p: max(row.value for row in story.rows if row.protocol == p) for p in story.titles}
    groups: dict[str, list[dict[str, Any]]] = {}
    for title in GROUPS.values():
        groups.setdefault(title, [])
    for name, role in story.roles.items():
        cells = []
        for protocol in story.titles:
            row = found[name, protocol]
            marked = row.metric == "accuracy" and row.value == best[protocol]
            cells.append({"value": words.amount(row), "spread": words.spread(row), "best": marked, "of": _of(row)})
        any_row = found[name, next(iter(story.titles))]
        budget = story.results["budget"].get(name, {})
        groups[GROUPS[role]].append(
            {
                "name": name,
                "what": _what(story, name, role, any_row),
                "style": story.styles[name],
                "cells": cells,
                "parameters": words.big(any_row.parameters) if any_row.parameters else "",
                "images_seen": words.big(budget["images_seen"]) if "images_seen" in budget else "",
                "epochs": f"{budget['epochs']:g}" if "epochs" in budget else "",
                "seconds": words.duration(budget["seconds"]) if "seconds" in budget else "",
            }
        )
    return [(title, rows) for title, rows in groups.items() if rows]


def _of(row: Row) -> str:
    return f"of {row.dim}" if row.metric == "effective_rank" else ""


def _what(story: Story, name: str, role: Role, row: Row) -> str:
    if role == "pixels":
        return f"{row.dim:,} values in [0, 1]"
    return f"{lineage.encoder(story.models[name].encoder.model_dump())}, {row.dim}-d" if name in story.models else ""


def _deltas(story: Story) -> list[dict[str, Any]]:
    """The table of deltas: a row a comparison and opponent, a cell a protocol."""
    found = {(row.model, row.protocol): row for row in story.rows}
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for entry in story.deltas:
        for other in ("alone", "teacher"):
            value, spread = entry[f"distilled_minus_{other}"], entry[f"distilled_minus_{other}_spread"]
            judged = [found[entry[who], entry["protocol"]] for who in ("student", other)]
            scale, tone = 1, ""
            if entry["metric"] == "accuracy":
                noise = words.sampling_error(*judged) if spread is None else spread
                scale, tone = 100, "" if abs(value) <= noise else "up" if value > 0 else "down"
            cell = {"value": words.signed(value * scale), "spread": f"{spread * scale:.1f}" if spread is not None else "", "tone": tone}
            rows.setdefault((entry["student"], other, entry[other]), []).append(cell)
    return [
        {"student": student, "style": story.styles[student], "delta": f"distilled_minus_{who}", "other": other, "cells": cells}
        for (student, who, other), cells in rows.items()
    ]


def _cards(story: Story) -> list[dict[str, Any]]:
    """A card a distilled student: its size, and where it stands between the same network alone and its teacher."""
    found = {(row.model, row.protocol): row for row in story.rows}
    scored = [p for p in story.titles if any(row.protocol == p and row.metric == "accuracy" for row in story.rows)]
    cards = []
    for comparison in story.stage.compare if scored else ():
        trio = [comparison.alone, comparison.teacher, comparison.student]
        values = [found[name, p].value * 100 for name in trio for p in scored]
        low, high = max(0, math.floor(min(values) - 1)), 100
        own, teacher = (found[name, scored[0]].parameters for name in (comparison.student, comparison.teacher))
        lines = []
        for protocol in scored:
            here = [found[name, protocol] for name in trio]
            marks = [
                {"name": r.model, "value": words.amount(r), "at": f"{(r.value * 100 - low) / (high - low) * 100:.1f}", "style": story.styles[r.model]}
                for r in here
            ]
            lines.append({"title": story.titles[protocol], "marks": marks, "value": words.amount(here[-1])})
        cards.append(
            {
                "name": comparison.student, "style": story.styles[comparison.student], "lines": lines, "low": low, "high": high,
                "share": f"{min(own / teacher, 1) * 100:.1f}", "legend": f"empty: alone; blue: {comparison.teacher}",
                "size": f"{words.big(own)} parameters, {own / teacher:.{int(own < teacher / 100)}%} of {comparison.teacher}",
            }
        )  # fmt: skip
    return cards


def _uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _size(image: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
