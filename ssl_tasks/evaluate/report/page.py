"""The report as files: figures as PNG, and one HTML page that needs nothing but itself."""

import base64
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from schemas.protocols.classifiers import Calibration
from ssl_tasks.evaluate import leaks, protocols, results
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.report import matrix, tables, words
from ssl_tasks.evaluate.report.cards import cards
from ssl_tasks.evaluate.report.diagram import diagram
from ssl_tasks.evaluate.report.palette import png
from ssl_tasks.evaluate.report.plates import plates
from ssl_tasks.evaluate.report.showcase import Showcase
from ssl_tasks.evaluate.report.story import Story
from ssl_tasks.report import template
from ssl_tasks.report.theme import DARK, LIGHT

SECTIONS = {
    "run": "What was run", "results": "Results", "students": "What distillation changed", "looks": "What the features see", "health": "Is it healthy",
    "costs": "What it costs", "lineage": "Where the numbers come from", "protocols": "How it was measured", "reproduce": "Again, and further",
}  # fmt: skip
"""Titles of the page's sections by their addresses, in the order in which a reader wants them."""
LARGE = 150_000
"""Bytes of a PNG above which a figure is WebP in the page: photographs take a tenth of the room so."""


@dataclass(frozen=True)
class Image:
    """A plate as it stands on the page: under a name that is its own, with a data URI for each theme."""

    name: str
    plate: Plate
    light: str
    dark: str
    width: int
    height: int


def write(folder: Path, story: Story, show: Showcase) -> None:
    """Write `figures/*.png` and `report.html` into a report's folder."""
    (folder / "figures").mkdir(parents=True)
    images: dict[str, Image] = {}
    for plate in plates(story, show):
        name = _free(plate.name, images)
        light = png(plate.draw(LIGHT))
        (folder / "figures" / f"{name}.png").write_bytes(light)
        images[name] = Image(name, plate, _uri(light), _uri(png(plate.draw(DARK))), *_size(light))
    (folder / "report.html").write_text(page(story, list(images.values())), encoding="utf-8")


def page(story: Story, images: Sequence[Image]) -> str:
    """The HTML of the report: no script, no request."""
    split = story.results["split"]
    labelled = bool(split["classes"] and split["queries"])
    return template(Path(__file__).parent).render(
        story=story,
        job=story.job,
        lead=words.lead(story.rows, story.students, story.titles),
        caveat=words.caveat(
            story.stage.seed,
            split["queries"],
            labelled,
            max([1, *(entry["seeds"] for entry in story.results["summaries"])]),
            all(weights == "last" for weights in story.results["checkpoints"].values()),
        ),
        leaking=[*leaks.warnings(story.leaks), *leaks.label_warnings(story.stage.dataset, story.results["label_leaks"])],
        remarks=leaks.remarks(story.leaks),
        titles=SECTIONS,
        contents=_contents(story, images),
        diagram=diagram(story.links),
        facts=_facts(story),
        budgets=tables.budgets(story),
        cards=cards(story) if labelled else [],
        tables=matrix.tables(story),
        students=tables.students(story),
        intervals=tables.intervals(story),
        health=tables.health(story),
        costs=tables.costs(story),
        skipped=results.skips(story.results["skipped"]),
        sections=_sections(images, story),
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


def _contents(story: Story, images: Sequence[Image]) -> list[tuple[str, str]]:
    """Addresses and titles of the page's sections, in their order."""
    shown = {image.plate.section for image in images}
    there = {"students": bool(tables.students(story)), "looks": "looks" in shown, "health": "health" in shown or bool(tables.health(story))}
    return [(address, title) for address, title in SECTIONS.items() if there.get(address, True)]


def _free(name: str, taken: Collection[str]) -> str:
    """A plate's name as a file and an address within the page may have it, that no other plate has."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return next(each for each in (plain, *(f"{plain}-{i}" for i in range(2, len(taken) + 3))) if each not in taken)


def _sections(images: Sequence[Image], story: Story) -> dict[str, tuple[list[Image], list[Image]]]:
    """Of each section the figures of models and of everything together, and those of one baseline alone, which the page folds away."""
    baselines = [name for name, role in story.roles.items() if role in ("pixels", "random")]

    def split(own: list[Image]) -> tuple[list[Image], list[Image]]:
        aside = [image for image in own if any(image.plate.title.endswith(name) for name in baselines)]
        return [image for image in own if image not in aside], aside

    return {name: split(_ordered([i for i in images if i.plate.section == name], story)) for name in ("results", "looks", "health", "costs", "curation")}


def _ordered(images: Sequence[Image], story: Story) -> list[Image]:
    """Figures of one kind beside each other, one a model: kinds in the order in which they first come."""

    def kind(image: Image) -> str:
        return next((image.plate.title.replace(name, "") for name in sorted(story.roles, key=len, reverse=True) if name in image.plate.title), image.name)

    kinds = list(dict.fromkeys(map(kind, images)))
    return sorted(images, key=lambda image: kinds.index(kind(image)))


def _uri(image: bytes) -> str:
    """A PNG as the address of itself, or of a WebP where it is large."""
    if len(image) <= LARGE:
        return "data:image/png;base64," + base64.b64encode(image).decode()
    packed = io.BytesIO()
    PIL.Image.open(io.BytesIO(image)).save(packed, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()


def _size(image: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
