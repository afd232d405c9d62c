"""Reliability diagram and ECE: Guo, Pleiss, Sun, Weinberger, 2017, https://arxiv.org/abs/1706.04599, section 2.

As often as a classifier is right among answers that it is so sure of: a calibrated one is right in 80% of those that it gives 0.8.
"""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from schemas.protocols.robustness import Reliability
from ssl_tasks.evaluate import probes
from ssl_tasks.evaluate.classifiers.calibration import Bins, binned, calibration_error
from ssl_tasks.evaluate.findings import Finding, Number, Plate
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.report.palette import WIDTH, dress
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.report.theme import Theme


def judge(protocol: Reliability, subject: Subject) -> Iterator[Finding]:
    logits, labels = _logits(protocol, subject)
    error = calibration_error(logits, labels, protocol.bins)
    yield Number("ece", [error], len(labels))
    if subject.is_model:
        bins = binned(logits, labels, protocol.bins)
        sure, right = bins.confidence.sum() / len(labels), bins.right.sum() / len(labels)
        lean = "too sure" if sure > right else "not sure enough"
        caption = (
            f"Of {len(labels):,} test images in {protocol.bins} bins by how sure {subject.name} is: how many are right (bars) beside how sure it is "
            f"(dots); below, how many images a bin holds. On average {sure:.1%} sure and {right:.1%} right: {lean}. ECE {error:.1%}."
        )
        yield Plate(f"reliability_{subject.name}", "results", f"Reliability of {subject.name}", caption, lambda theme: draw(bins, theme))


def meaning(protocol: Reliability) -> str:
    by = {
        "linear": "a logistic regression on frozen features",
        "knn": "the share of the nearest train images' vote",
        "classifier": "the model's own head",
    }[protocol.probe]
    return (
        f"ECE: distance of confidence and accuracy over {protocol.bins} bins of equal width, in percentage points, weighed by the bins' images. The "
        f"confidence is that of {by}, on test images as it comes: nothing is fitted to calibrate it. An image of a class that it does not know counts as wrong."
    )


def draw(bins: Bins, theme: Theme) -> Figure:
    """Accuracy by confidence over how many images each bin holds."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = 1 / len(bins.images)
    middles, held = (np.arange(len(bins.images)) + 0.5) * width, bins.images > 0
    dress(above, "% right by confidence", theme)
    above.bar(middles[held], 100 * bins.right[held] / bins.images[held], width * 0.9, color=theme.hues[0])
    above.plot([0, 1], [0, 100], color=theme.muted, linewidth=1, linestyle=":")
    above.plot(bins.confidence[held] / bins.images[held], 100 * bins.confidence[held] / bins.images[held], "o", color=theme.wrong, markersize=4)
    above.set(xlim=(0, 1), ylim=(0, 100))
    dress(below, "% of the images", theme)
    below.bar(middles, 100 * bins.images / bins.images.sum(), width * 0.9, color=theme.muted)
    below.set_xlabel("confidence", fontsize=8, color=theme.muted)
    return figure


def _logits(protocol: Reliability, subject: Subject) -> tuple[Floats, Ints]:
    """Logits (Q, K) and labels (Q,) of the test images, in the numbers of the data set or of the model's own head."""
    if protocol.probe == "classifier":
        return subject.known.queries, subject.known.labels
    parts = subject.world.parts
    scores = probes.fit(protocol.probe, subject).scores(subject.features[parts.queries])
    return np.log(scores.clip(min=np.finfo(np.float64).tiny)), parts.labels[parts.queries]
