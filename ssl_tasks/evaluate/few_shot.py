"""Nearest neighbour among a few labelled images a class: how much of a class one example carries."""

import numpy as np

from schemas.errors import UserError
from ssl_tasks.evaluate.knn import Floats, Ints, neighbours


def few_shot(bank: Floats, bank_labels: Ints, queries: Floats, query_labels: Ints, shots: int, draws: int, seed: int, device: str = "cpu") -> list[float]:
    """Accuracy of each draw: every query takes the class of the nearest (cosine) drawn image.

    Args:
        bank, queries: features, (N, D) and (Q, D).
        bank_labels, query_labels: classes, (N,) and (Q,); the latter only score.

    Raises:
        UserError: if a class has fewer images than shots.
    """
    scores = []
    for drawn in draw(bank_labels, shots, draws, seed):
        nearest = neighbours(bank[drawn], queries, 1, device)[1][:, 0]
        scores.append(float(np.mean(bank_labels[drawn][nearest] == query_labels)))
    return scores


def draw(labels: Ints, shots: int, draws: int, seed: int) -> list[Ints]:
    """Bank rows of each draw, `shots` a class, without replacement; the same for every model with the same bank and seed."""
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < shots:
        scarce = classes[counts.argmin()]
        raise UserError(f"few_shot: shots is {shots}, but class {scarce} has only {counts.min()} labelled train images; lower shots")
    rows = [np.flatnonzero(labels == c) for c in classes]
    generators = [np.random.default_rng([seed, d]) for d in range(draws)]
    return [np.concatenate([g.choice(r, shots, replace=False) for r in rows]) for g in generators]
