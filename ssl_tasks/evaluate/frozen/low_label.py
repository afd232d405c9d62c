"""Logistic regression on a share of the labels, as SimCLR reports 1% and 10% of them: Chen et al., 2020, https://arxiv.org/abs/2002.05709, section 6.

A draw takes the share of each class's labelled train images, at least one; a smaller share takes some of those that a larger one does. All
models see the same draws. The strength C of each draw is chosen on a tenth of that draw alone; it is 1 where no class of it has two images.

Differs from the paper: the encoder stays frozen (the paper's is fine-tuned: see `fine_tuned` with `labels`), and the labels are drawn several
times instead of once, so that there is a spread.
"""

from collections.abc import Iterator

import numpy as np

from schemas.protocols.frozen import LowLabel
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.probes import Logistic, among_top, logistic
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: LowLabel, subject: Subject) -> Iterator[Number]:
    x, parts, world = subject.features, subject.world.parts, subject.world
    assert isinstance(protocol.share, float)
    labels, wanted = parts.labels[parts.bank], parts.labels[parts.queries]
    drawn = draw(labels, protocol.share, protocol.draws, world.seed)
    said = low_label(x[parts.bank], labels, x[parts.queries], drawn, protocol.strengths, world.seed, len(parts.classes))
    found = np.stack([right(each.argmax(1), wanted) for each in said])
    yield Number("accuracy", found.mean(1).tolist(), len(wanted), found.mean(0))
    top = [number for each in said for number in among_top(each, wanted)]
    if top:
        items = np.stack([number.items for number in top if number.items is not None])
        yield Number("top5", items.mean(1).tolist(), len(wanted), items.mean(0))


def meaning(protocol: LowLabel) -> str:
    return (
        f"Logistic regression on {protocol.share:.3g} of the labels of each class (at least one image), features as they are. Its strength is the best of "
        f"{protocol.strengths} on a tenth of those images. Mean and standard deviation over {protocol.draws} random draws of them; every model "
        "sees the same draws."
    )


def low_label(bank: Floats, labels: Ints, queries: Floats, drawn: list[Ints], strengths: int, seed: int, classes: int) -> list[Floats]:
    """Probabilities (Q, K) of the queries' classes after each draw.

    Args:
        bank, labels: features (N, D) and classes (N,), of which only the drawn rows are looked at.

    Raises:
        UserError: if a draw has fewer than two classes.
    """
    return [Logistic(logistic(bank[rows], labels[rows], strengths, seed), classes).scores(queries) for rows in drawn]


def draw(labels: Ints, share: float, draws: int, seed: int) -> list[Ints]:
    """Bank rows of each draw, rising: of each class the nearest number to its share, at least one; the same for every model."""
    rows = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    generators = [np.random.default_rng([seed, d]) for d in range(draws)]
    return [np.sort(np.concatenate([g.permutation(r)[: max(1, round(share * len(r)))] for r in rows])) for g in generators]
