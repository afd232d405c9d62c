"""The report as files: one HTML page without script or request, and its pictures as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.curation import Retrieve
from ssl_tasks.curate.report import clusters, counts, curves, leaks, scenes
from ssl_tasks.curate.report.pictures import Album, Tile
from ssl_tasks.curate.report.plane import SIDE, Plane, plane
from ssl_tasks.curate.report.scenes import Scene
from ssl_tasks.curate.report.sheets import sheet
from ssl_tasks.curate.report.story import Story, in_words
from ssl_tasks.data import manifest
from ssl_tasks.report import template

PAGE, FIGURES = "report.html", "figures"
NAMED = 4
"""Steps that the first lines name, those that took most."""
DUPLICATES = ("exact_duplicates", "perceptual_duplicates", "deduplicate")


@dataclass
class Chapter:
    """One step on the page.

    Attributes:
        told: its counts, reasons, notes and config.
        kind: of its pictures: `groups`, `seeds`, `quarantine` or `sample`.
        total: number of groups.
    """

    told: dict[str, Any]
    kind: str = ""
    scenes: list[Scene] = field(default_factory=list)
    total: int = 0
    calibration: curves.Calibration | None = None
    diameters: counts.Histogram | None = None


def write(folder: Path, story: Story) -> None:
    """Write `report.html` and `figures/*.png` into a Dataset's folder: equal bytes for equal images, config and seed."""
    album = Album(story.pool.job.workspace)
    chapters = [_chapter(story, album, number, told) for number, told in enumerate(counts.chapters(story))]
    leaking = leaks.leaks(story, album)
    montages, sizes = clusters.clusters(story, album)
    album.develop()
    drawn = plane(story)
    (folder / FIGURES).mkdir()
    _figures(folder / FIGURES, chapters, leaking, montages, drawn)
    page = _page(story, chapters, leaking, montages, sizes, drawn)
    (folder / PAGE).write_text(page, encoding="utf-8")


def _chapter(story: Story, album: Album, number: int, told: dict[str, Any]) -> Chapter:
    chapter = Chapter(told, calibration=curves.calibration(told), diameters=curves.diameters(told))
    step = story.steps[number]
    kind = step.kind
    if isinstance(step, Retrieve) and step.mode == "nearest":
        chapter.kind = "seeds"
        chapter.scenes, chapter.total = scenes.retrieved(story, album, number, step)
    elif kind in DUPLICATES:
        chapter.kind = "groups"
        chapter.scenes, chapter.total = scenes.duplicates(story, album, number)
    elif kind == "integrity":
        chapter.kind, chapter.scenes = "quarantine", scenes.quarantined(story, album, number)
    elif kind not in ("leakage", "balance"):
        chapter.kind, chapter.scenes = "sample", scenes.sample(story, album, number)
    return chapter


def _figures(folder: Path, chapters: Sequence[Chapter], leaking: leaks.Leaks | None, montages: Sequence[Scene], drawn: Plane | None) -> None:
    sheets: dict[str, list[list[Tile]]] = {chapter.told["step"]: [scene.tiles for scene in chapter.scenes] for chapter in chapters}
    sheets["clusters"] = [scene.tiles for scene in montages]
    sheets["leaks"] = [[pair.train, pair.evaluated] for pair in leaking.pairs] if leaking else []
    for name, rows in sheets.items():
        if rows := [row for row in rows if row]:
            (folder / f"{name}.png").write_bytes(sheet(rows))
    if drawn:
        (folder / "map.png").write_bytes(drawn.png)


def _page(
    story: Story,
    chapters: Sequence[Chapter],
    leaking: leaks.Leaks | None,
    montages: Sequence[Scene],
    sizes: Sequence[tuple[int, int]],
    drawn: Plane | None,
) -> str:
    job, came, stays = story.pool.job, int(story.came.sum()), int(story.stays.sum())
    labels, more_labels = counts.classes(story)
    examples = [tile.id for chapter in chapters for scene in chapter.scenes for tile in scene.tiles if tile.tone == "gone"]
    return template(Path(__file__).parent).render(
        job=job,
        stage=story.stage,
        lead=lead(story),
        facts={
            "came in": f"{came:,}",
            "stay": f"{stays:,}",
            "listed in all": f"{len(story.before):,}",
            "from": story.stage.dataset,
            "data": job.data_version[:8] or "not versioned",
            "seed": str(story.stage.seed),
        },
        config=[" ".join(filter(None, [step.kind, f"({words})" if (words := in_words(step)) else ""])) for step in story.steps],
        earlier=manifest.steps(story.before),
        bars=counts.funnel(story),
        chapters=chapters,
        leaking=leaking,
        montages=montages,
        sizes=clusters.profile(sizes),
        cluster_count=len(sizes),
        drawn=drawn,
        side=SIDE,
        histograms=counts.histograms(story),
        labels=labels,
        more_labels=more_labels,
        splits=counts.splits(story),
        example=examples[0] if examples else 0,
        percent=counts.percent,
    )


def lead(story: Story) -> list[str]:
    """What came of it, in two sentences."""
    bars = counts.funnel(story)
    came, left = bars[0].left, bars[-1].left
    first = f"{left:,} of {came:,} images stay" + (f", {counts.percent(left, came)}." if left < came else ".")
    ranked = sorted((bar for bar in bars if bar.lost), key=lambda bar: -bar.lost)
    parts = [f"{bar.name} {'' if number else 'took '}{bar.lost:,}" for number, bar in enumerate(ranked[:NAMED])]
    if len(ranked) > NAMED:
        parts.append(f"the other steps {sum(bar.lost for bar in ranked[NAMED:]):,}")
    second = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
    moved = sum(bar.moved for bar in bars)
    aside = f"{moved:,} were set aside to evaluate on." if moved else ""
    return [sentence for sentence in (first, f"{second[0].upper()}{second[1:]}." if second else "Nothing was removed.", aside) if sentence]
