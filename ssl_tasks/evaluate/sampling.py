"""Which rows a protocol looks at where all would be too many."""

import numpy as np

from ssl_tasks.evaluate.neighbours import Ints


def drawn(rows: Ints, samples: int, seed: int) -> Ints:
    """At most so many of some rows, at random without replacement, in their order: the same for all models."""
    if len(rows) <= samples:
        return rows
    chosen: Ints = np.sort(np.random.default_rng(seed).choice(rows, samples, replace=False))
    return chosen
