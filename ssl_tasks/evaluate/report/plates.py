"""The figures of one report: which there are, what they show, and what their captions say."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from schemas.errors import UserError
from schemas.naming import group
from schemas.protocols import ProtocolSpec
from schemas.protocols.looks import EmbeddingMap, Gallery
from ssl_tasks.data import manifest
from ssl_tasks.data.store import side_for, squares
from ssl_tasks.evaluate import lineage
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.intervals import over_images, over_seeds
from ssl_tasks.evaluate.report import figures, neighbourhoods, pictures, plane, showcase
from ssl_tasks.evaluate.report.pareto import Point, pareto
from ssl_tasks.evaluate.report.showcase import Showcase
from ssl_tasks.evaluate.report.story import Story
from ssl_tasks.evaluate.results import Row
from ssl_tasks.evaluate.students import costs

MAPS = 4
"""Models in the map of the embeddings."""


def plates(story: Story, show: Showcase) -> Iterator[Plate]:
    """Every figure that the evaluation has the data for."""
    yield from _dots(story)
    yield from _pareto(story)
    yield from _curves(story)
    yield from _map(story, show)
    yield from _grid(story, show)
    yield from _curation(story)
    yield from story.plates


def _dots(story: Story) -> Iterator[Plate]:
    if any(row.metric == "accuracy" for row in story.rows):
        caption = (
            "Percent of test images that are right. A line is one standard deviation over draws. Hollow: not distilled, or not trained. "
            "An arrow at the left edge: the value lies further down."
        )
        styles = {story.short[name]: style for name, style in story.styles.items()}
        rows = [(story.short[row.model], row) for row in story.rows]
        yield Plate("models", "results", "Models by protocol", caption, lambda theme: figures.dots(rows, story.titles, styles, theme))


PRICES: dict[str, str] = {"parameters": "parameters", "flops": "FLOPs", "latency_cpu": "ms an image, CPU", "latency_cuda": "ms an image, GPU"}
"""Titles of the panels that a price has; of two latencies the GPU's is drawn."""


def _pareto(story: Story) -> Iterator[Plate]:
    scored = [measure for measure in story.titles if story.metrics[measure] == "accuracy"]
    of = next((m for kind in ("accuracy", "knn") for m in scored if m.split("_k")[0] == kind), scored[0] if scored else "")
    points = _points(story, of)
    if not story.students or len(points) < 2:
        return
    styles = {group(name): style for name, style in story.styles.items()}
    caption = (
        f"Percent of test images that are right ({story.titles[of]}) against what a model takes. The line is the front: "
        "no model here reaches more for as little. What lies off it is pale; a vertical line is the 95% interval. Hollow: trained alone."
    )
    yield Plate("pareto", "costs", "What it reaches for what it takes", caption, lambda theme: pareto(points, story.titles[of], styles, theme))


def _points(story: Story, of: str) -> list[Point]:
    """A point for each model that has all that others have; its seeds are one."""
    members: dict[str, list[Row]] = {}
    for row in story.rows:
        if row.measure == of and row.model in story.models:
            members.setdefault(group(row.model), []).append(row)
    points = []
    for name, rows in members.items():
        ends = over_seeds([row.value for row in rows]) or over_images(rows[0].value, rows[0].n)
        cost = costs(story.rows, {row.model for row in rows})
        priced: dict[str, float] = {"parameters": rows[0].parameters, **{metric: cost[metric] for metric in PRICES if metric in cost}}
        if "latency_cuda" in priced:
            del priced["latency_cpu"]
        value = 100 * statistics.fmean(row.value for row in rows)
        points.append(Point(name, value, 100 * max(ends.low, 0), 100 * min(ends.high, 1), {PRICES[metric]: price for metric, price in priced.items()}))
    most = max((len(point.prices) for point in points), default=0)
    return [point for point in points if len(point.prices) == most]


def _curves(story: Story) -> Iterator[Plate]:
    panels: dict[str, dict[str, figures.Curve]] = {}
    for name, model in story.models.items():
        for quantity, curve in showcase.curves(model).items():
            title = {"train/loss": f"loss, {lineage.method(model.config)}", "monitor/effective_rank": "effective rank", "monitor/knn": "k-NN"}
            if quantity.startswith("watch/") and quantity.count("/") == 1:
                title[quantity] = f"{quantity.removeprefix('watch/')}, watched"
            if quantity in title:
                panels.setdefault(title[quantity], {})[story.short[name]] = curve
    if panels:
        ordered = dict(sorted(panels.items(), key=lambda panel: not panel[0].startswith("loss")))
        caption = (
            "What training recorded, to the last step; losses of different methods or batch sizes do not compare. "
            "Monitors look at a fixed sample of train images, so their k-NN is not the table's."
        )
        if any(title.endswith(", watched") for title in panels):
            caption += " What was watched was judged beside the training, on a sample of the images."
        styles = {story.short[name]: story.styles[name] for name in story.models}
        yield Plate("curves", "health", "Training", caption, lambda theme: figures.curves(ordered, styles, theme))


def _map(story: Story, show: Showcase) -> Iterator[Plate]:
    if _asked(story, EmbeddingMap):
        return
    order = {"teacher": 0, "student": 1, "pretrained": 2, "alone": 3}
    one_a_student = {group(name): name for name in list(story.models)[::-1]}
    chosen = sorted((name for name in story.models if name in one_a_student.values()), key=lambda name: order.get(story.roles[name], 4))[:MAPS]
    maps = {story.short[name]: plane.places(show.mapped[name], show.seed) for name in chosen if name in show.mapped}
    if not maps:
        return
    labels, classes = show.parts.labels[show.sample], show.parts.classes
    caption = plane.caption(show.parts, len(show.sample), "tsne")
    yield Plate("map", "looks", "Map of the embeddings", caption, lambda theme: figures.embedding_map(maps, labels, classes, theme))


def _grid(story: Story, show: Showcase) -> Iterator[Plate]:
    by_role = {role: name for name, role in reversed(story.roles.items()) if name in show.nearest}
    chosen = next((by_role[role] for role in ("student", "teacher", "pretrained", "alone") if role in by_role), None)
    if chosen is not None and not _asked(story, Gallery):
        yield neighbourhoods.plate("neighbours", "Nearest neighbours", chosen, show.nearest[chosen], show.parts, story.job.workspace, show.seed)


def _asked(story: Story, kind: type[ProtocolSpec]) -> bool:
    """Whether a protocol draws for every model what a report draws for some."""
    return any(isinstance(protocol, kind) for protocol in story.stage.protocols)


def _curation(story: Story) -> Iterator[Plate]:
    if not story.curated:
        return
    last = story.curated[-1]
    table = manifest.read(last)
    steps = [step["kind"] for artifact in story.curated for step in artifact.config["steps"]]
    counts = {name.replace("_", " "): left for name, left in showcase.counts(table, steps).items()}
    caption = f"Train images that each step of {last.stage} leaves: {last.kept:,} are trained on."
    equal = [v for a in story.curated for k, v in a.metrics.items() if k.endswith("/equal_to_other_split")]
    if equal:
        caption += f" {sum(equal):,.0f} train images were equal to an image of another split."
    yield Plate("curation", "curation", "What curation kept", caption, lambda theme: figures.funnel(counts, theme))
    found = showcase.duplicates(table)
    if not found:
        return
    try:
        shown = _pictures(table, [row for pair in found for row in pair], story.job.workspace)
    except UserError:  # an image that was removed as a duplicate is needed for nothing else: it may be gone
        return
    couples = list(zip(shown[::2], shown[1::2], strict=True))
    total = len(table) - table["duplicate_of"].null_count
    shown_of = "Every image" if len(couples) == total else f"{len(couples)} of the {total:,} images"
    caption = f"{shown_of} that went as a duplicate, beside the one that stays."
    yield Plate("duplicates", "curation", "Duplicates", caption, lambda theme: pictures.pairs(couples, theme))


def _pictures(table: pa.Table, rows: list[int], workspace: Path) -> list[pictures.Picture]:
    listed = table.take(rows)
    return list(squares(listed, workspace, side_for(listed, pictures.PICTURE), 3))
