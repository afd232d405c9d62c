"""Distribution shift: a probe fitted here and judged on another data set, as Recht, Roelofs, Schmidt, Shankar, 2019, https://arxiv.org/abs/1902.10811.

Classes are matched by name. Only those count that both have, and only between these the probe chooses, in both places, as for data sets of
some of ImageNet's classes (https://arxiv.org/abs/2006.16241).
"""

from collections.abc import Iterator

import numpy as np

from schemas.errors import UserError
from schemas.protocols.robustness import Shift
from ssl_tasks.evaluate import probes
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.robustness.elsewhere import elsewhere
from ssl_tasks.evaluate.split import own_numbers
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Shift, subject: Subject) -> Iterator[Number]:
    parts, away = subject.world.parts, elsewhere(protocol.kind, protocol.dataset, subject)
    there = away.world.parts
    rows = there.queries if len(there.queries) and (there.labels[there.queries] >= 0).all() else there.bank
    if not len(rows):
        raise UserError(f"shift.dataset: '{protocol.dataset}' has no labels; set `labels: true` on its source")
    labels = own_numbers(there.labels[rows], there.classes, parts.classes)
    shared = np.intersect1d(labels[labels >= 0], parts.labels[parts.bank])
    if len(shared) < 2:
        raise UserError(
            f"shift.dataset: '{protocol.dataset}' and '{subject.world.stage.dataset}' share {len(shared)} classes, and two are needed: "
            f"one has {_few(there.classes)}, the other {_few(parts.classes)}; classes are matched by name"
        )
    probe = probes.fit(protocol.probe, subject)
    found = _right(probe, away.features, rows, labels, shared)
    yield Number("accuracy", [float(found.mean())], len(found), found)
    here = _right(probe, subject.features, parts.queries, parts.labels[parts.queries], shared)
    if len(here):
        yield Number("drop", [float(here.mean() - found.mean())], len(found))


def meaning(protocol: Shift) -> str:
    fitted = "The model's own head" if protocol.probe == "classifier" else f"A {protocol.probe} probe, fitted to the train images here and"
    return (
        f"{fitted} judged on images of '{protocol.dataset}': its test split, or else its train split. Only classes that both data sets have, by "
        "name, count and are chosen between. Percent that is right there; drop: what it is less than on the test images here, of the same classes."
    )


def _right(probe: probes.Probe, features: Floats, rows: Ints, labels: Ints, shared: Ints) -> Floats:
    """Whether the probe is right, 1 or 0, on each image of a shared class, choosing among these."""
    counted = np.isin(labels, shared)
    if not counted.any():
        return np.zeros(0)
    return right(shared[probe.scores(features[rows[counted]])[:, shared].argmax(1)], labels[counted])


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
