"""Nearest neighbour among a few labelled images a class: how much of a class one example carries."""

from collections.abc import Iterator

import numpy as np

from schemas.errors import UserError
from schemas.protocols.frozen import FewShot
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints, neighbours
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: FewShot, subject: Subject) -> Iterator[Number]:
    x, parts, world = subject.features, subject.world.parts, subject.world
    assert isinstance(protocol.shots, int)
    each = few_shot(
        x[parts.bank], parts.labels[parts.bank], x[parts.queries], parts.labels[parts.queries], protocol.shots, protocol.draws, world.seed, world.device
    )
    yield Number("accuracy", each.mean(1).tolist(), each.shape[1], each.mean(0))


def meaning(protocol: FewShot) -> str:
    return (
        f"Each test image takes the class of the nearest (cosine) of {protocol.shots} labelled train images a class. Mean and "
        f"standard deviation over {protocol.draws} random draws; every model sees the same draws."
    )


def few_shot(bank: Floats, bank_labels: Ints, queries: Floats, query_labels: Ints, shots: int, draws: int, seed: int, device: str = "cpu") -> Floats:
    """Whether each draw is right on each query, 1 or 0, (draws, Q): a query takes the class of the nearest (cosine) drawn image.

    Args:
        bank, queries: features, (N, D) and (Q, D).
        bank_labels, query_labels: classes, (N,) and (Q,); the latter only score.

    Raises:
        UserError: if a class has fewer images than shots.
    """
    scores = []
    for drawn in draw(bank_labels, shots, draws, seed):
        nearest = neighbours(bank[drawn], queries, 1, device)[1][:, 0]
        scores.append(right(bank_labels[drawn][nearest], query_labels))
    return np.stack(scores)


def draw(labels: Ints, shots: int, draws: int, seed: int) -> list[Ints]:
    """Bank rows of each draw, `shots` a class, without replacement; the same for every model with the same bank and seed."""
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < shots:
        scarce = classes[counts.argmin()]
        raise UserError(f"few_shot: shots is {shots}, but class {scarce} has only {counts.min()} labelled train images; lower shots")
    rows = [np.flatnonzero(labels == c) for c in classes]
    generators = [np.random.default_rng([seed, d]) for d in range(draws)]
    return [np.concatenate([g.choice(r, shots, replace=False) for r in rows]) for g in generators]
