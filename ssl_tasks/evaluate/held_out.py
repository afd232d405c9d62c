"""What is held out of the labelled train images to choose settings on: never the test split."""

import numpy as np

from ssl_tasks.evaluate.neighbours import Ints


def split(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Bank rows held out, and the others: a random tenth of each class, none of a class with one image."""
    generator = np.random.default_rng(seed)
    held = []
    for c in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == c))
        held.append(rows[: min(len(rows) - 1, max(1, len(rows) // 10))])
    chosen = np.sort(np.concatenate(held))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)
