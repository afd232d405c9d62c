"""Accuracy of groups: Sagawa, Koh, Hashimoto, Liang, 2019, https://arxiv.org/abs/1911.08731, section 1: an average hides the worst group.

Groups are the classes, and those that a file tells: such as where a picture was taken, or a class on a background that it seldom has.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from schemas.errors import UserError
from schemas.protocols.robustness import Groups
from ssl_tasks.evaluate import probes
from ssl_tasks.evaluate.findings import Finding, Number, Plate, right
from ssl_tasks.evaluate.report.palette import WIDTH, dress
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.report.theme import Theme

SHOWN = 24
"""Groups in the figure at most: the worst."""

Of = dict[str, tuple[float, int]]
"""Of each group its accuracy and how many images it has."""


def judge(protocol: Groups, subject: Subject) -> Iterator[Finding]:
    world, parts = subject.world, subject.world.parts
    labels = parts.labels[parts.queries]
    told = {}
    if protocol.file:
        listed = world.table["uri"].take(parts.queries).to_pylist()
        told = read(world.job.workspace / protocol.file, listed, world.stage.dataset)
    found = right(probes.fit(protocol.probe, subject).predict(subject.features[parts.queries]), labels)
    yield Number("accuracy", [float(found.mean())], len(found), found)
    classes = accuracies(found, [parts.classes[label] for label in labels])
    counts = np.bincount(labels, minlength=len(parts.classes))
    balanced = found * len(found) / (len(classes) * counts[labels])
    yield Number("mean_class", [float(balanced.mean())], len(found), balanced)
    yield Number("worst_class", [min(classes.values())[0]], min(classes.values())[1])
    grouped = classes
    if protocol.file:
        grouped = accuracies(found[list(told)], list(told.values()))
        yield Number("worst_group", [min(grouped.values())[0]], min(grouped.values())[1])
    if subject.is_model:
        yield _plate(protocol, subject, grouped)


def meaning(protocol: Groups) -> str:
    fitted = "by the model's own head" if protocol.probe == "classifier" else f"by a {protocol.probe} probe on frozen features"
    told = f" Worst group: the same of the groups that {protocol.file} tells; images that it does not name are in none." if protocol.file else ""
    return (
        f"Percent of test images that are right {fitted}: of all; mean class, the mean of the classes' percents, each counting alike; and worst "
        f"class, the lowest of them, which is the more of an accident the fewer images a class has.{told}"
    )


def accuracies(found: NDArray[np.floating], groups: list[str]) -> Of:
    """Of each group the share of its images that is right, and how many there are.

    Args:
        found: whether each image is right, (N,).
        groups: of each image.
    """
    names, numbers = np.unique(np.array(groups), return_inverse=True)
    counts = np.bincount(numbers)
    return {str(name): (float(share), int(n)) for name, share, n in zip(names, np.bincount(numbers, found) / counts, counts, strict=True)}


def read(path: Path, listed: list[str], dataset: str) -> dict[int, str]:
    """The group of each listed image that a CSV file names, by its place in the list.

    Raises:
        UserError: where the file cannot be read, a line has no or another group than one before it, or no line names a listed image.
    """
    places = {uri: place for place, uri in enumerate(listed)}
    told: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            if missing := [name for name in ("uri", "group") if name not in (lines.fieldnames or [])]:
                raise UserError(f"groups.file: {path} has no column '{missing[0]}'; its first line must name `uri` and `group`")
            for line in lines:
                uri, group = line["uri"], (line["group"] or "").strip()
                if not group:
                    raise UserError(f"groups.file: {path}, line {lines.line_num}: '{uri}' has no group")
                if told.setdefault(uri, group) != group:
                    raise UserError(f"groups.file: {path}, line {lines.line_num}: '{uri}' is in '{group}' here and in '{told[uri]}' before; it has one group")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"groups.file: cannot read {path} ({getattr(error, 'strerror', None) or error}); it is a CSV, relative to the workspace") from error
    found = {places[uri]: group for uri, group in told.items() if uri in places}
    if not found:
        raise UserError(
            f"groups.file: none of the {len(told):,} images that {path} names is a test image of '{dataset}'; "
            f"a `uri` is written as in its manifest, such as '{listed[0]}'"
        )
    return dict(sorted(found.items()))


def _plate(protocol: Groups, subject: Subject, groups: Of) -> Plate:
    worst = dict(sorted(groups.items(), key=lambda item: item[1])[:SHOWN])
    name, (share, n) = next(iter(worst.items()))
    what = "group" if protocol.file else "class"
    some = f" The {SHOWN} worst of {len(groups)}." if len(groups) > SHOWN else ""
    caption = (
        f"Percent of the test images of each {what} that {subject.name} gets right, and how many there are; the lowest is {name}, {share:.1%} of {n:,}.{some}"
    )
    return Plate(f"groups_{subject.name}", "results", f"{subject.name}, {what} by {what}", caption, lambda theme: draw(worst, theme))


def draw(groups: Mapping[str, tuple[float, int]], theme: Theme) -> Figure:
    """A bar a group, the first at the top."""
    figure = Figure(figsize=(WIDTH, 0.5 + 0.24 * len(groups)), layout="constrained")
    axes = figure.subplots()
    dress(axes, "% right", theme)
    axes.grid(False)
    for y, (share, n) in enumerate(groups.values()):
        axes.barh(y, 100, height=0.62, color=theme.line)
        axes.barh(y, 100 * share, height=0.62, color=theme.hues[0])
        axes.text(102, y, f"{100 * share:.0f} of {n:,}", color=theme.ink, fontsize=8, va="center")
    axes.set_yticks(range(len(groups)), [name[:28] for name in groups])
    axes.tick_params(axis="y", labelsize=8, labelcolor=theme.ink)
    axes.invert_yaxis()
    axes.set_xlim(0, 124)
    axes.set_xticks([0, 50, 100])
    return figure
