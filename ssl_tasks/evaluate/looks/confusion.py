"""Which classes are taken for which: the confusion matrix of a probe, or of the model's own head."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from schemas.protocols.looks import Confusion
from ssl_tasks.evaluate import probes
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.looks.shown import called
from ssl_tasks.evaluate.neighbours import Ints
from ssl_tasks.evaluate.report.palette import WIDTH, dress
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.report.theme import Theme

LARGEST = 20
"""Classes up to which the whole matrix is drawn; of more, so many pairs of classes that are most often confused."""
WRITTEN = 12
"""Classes up to which the numbers stand in the matrix."""
PROBES = {"linear": "a linear probe", "knn": "weighted k-NN", "classifier": "the model's own head"}


def judge(protocol: Confusion, subject: Subject) -> Iterator[Plate]:
    parts = subject.world.parts
    said = probes.fit(protocol.probe, subject).predict(subject.features[parts.queries])
    true, classes = parts.labels[parts.queries], parts.classes
    counts = matrix(true, said, len(classes))
    title = f"Confusion: {subject.name}"
    start = f"What {PROBES[protocol.probe]} on {subject.name} takes {len(true):,} test images for."
    if (elsewhere := int((said < 0).sum())) > 0:
        start += f" {elsewhere:,} of them are taken for a class that the test set does not have."
    name = called(f"confusion-{protocol.probe}", subject)
    if len(classes) <= LARGEST:
        caption = f"{start} A row is a true class, a column what it was taken for, in percent of the row. {_worst(counts, classes)}"
        yield Plate(name, "looks", title, caption, lambda theme: drawn(counts, classes, theme))
    elif found := pairs(counts, LARGEST):
        caption = f"{start} The {len(found)} pairs of classes that are most often confused, in percent of the true class's images. {_worst(counts, classes)}"
        yield Plate(name, "looks", title, caption, lambda theme: listed(counts, found, classes, theme))


def meaning(protocol: Confusion) -> str:
    return f"What {PROBES[protocol.probe]} takes the test images of each class for; of more than {LARGEST} classes the {LARGEST} pairs most often confused."


def matrix(true: Ints, said: Ints, classes: int) -> Ints:
    """How many items of each class, a row, were taken for each, a column; those taken for none of them (-1) are left out."""
    known = said >= 0
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (true[known], said[known]), 1)
    return counts


def pairs(counts: Ints, most: int) -> list[tuple[int, int]]:
    """The true classes and what they were taken for that are confused most often, by share of the true class."""
    off = shares(counts)
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    return [(int(i // len(counts)), int(i % len(counts))) for i in order if off.flat[i] > 0]


def shares(counts: Ints) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Rows in percent; zero of a class without items."""
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return found


def drawn(counts: Ints, classes: Sequence[str], theme: Theme) -> Figure:
    """The matrix, shaded by share, what is right in another hue than what is wrong."""
    from matplotlib.colors import LinearSegmentedColormap

    percent, k = shares(counts), len(classes)
    figure = Figure(figsize=(WIDTH, WIDTH * 0.92), layout="constrained")
    axes = figure.subplots()
    dress(axes, "", theme)
    axes.grid(False)
    for own, hue in ((np.eye(k, dtype=bool), theme.hues[0]), (~np.eye(k, dtype=bool), theme.wrong)):
        shading = LinearSegmentedColormap.from_list("", [theme.card, hue])
        axes.imshow(np.ma.masked_where(~own, percent), cmap=shading, vmin=0, vmax=100)
    if k <= WRITTEN:
        for (row, column), value in np.ndenumerate(percent):
            if value >= 0.5:
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=theme.card if value > 55 else theme.ink)
    names = [name[:14] for name in classes]
    axes.set_xticks(range(k), names, rotation=45 if max(map(len, names)) > 2 else 0, ha="right" if max(map(len, names)) > 2 else "center")
    axes.set_yticks(range(k), names)
    axes.set_xlabel("taken for", fontsize=8, color=theme.muted)
    axes.set_ylabel("true class", fontsize=8, color=theme.muted)
    axes.spines["bottom"].set_visible(False)
    return figure


def listed(counts: Ints, found: Sequence[tuple[int, int]], classes: Sequence[str], theme: Theme) -> Figure:
    """A bar a pair of classes."""
    percent = shares(counts)
    figure = Figure(figsize=(WIDTH, 0.4 + 0.22 * len(found)), layout="constrained")
    axes = figure.subplots()
    dress(axes, "", theme)
    axes.grid(False)
    axes.barh(range(len(found)), [percent[pair] for pair in found], height=0.7, color=theme.wrong)
    for y, pair in enumerate(found):
        axes.text(percent[pair], y, f" {percent[pair]:.0f}", va="center", fontsize=7.5, color=theme.ink)
    axes.set_yticks(range(len(found)), [f"{classes[a][:18]} as {classes[b][:18]}" for a, b in found])
    axes.tick_params(axis="y", labelsize=7.5, labelcolor=theme.ink)
    axes.invert_yaxis()
    axes.set_xlabel("% of the true class", fontsize=8, color=theme.muted)
    return figure


def _worst(counts: Ints, classes: Sequence[str]) -> str:
    """The most frequent confusions in words."""
    percent = shares(counts)
    told = [f"{classes[a]} for {classes[b]} ({percent[a, b]:.0f}%)" for a, b in pairs(counts, 3)]
    return f"Most often confused: {', '.join(told)}." if told else "None is taken for another."
