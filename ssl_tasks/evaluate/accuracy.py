"""Accuracy of a classifier by its own head, and what protocols of classifiers share: logits and labels in the classifier's own numbers.

Shapes: Q images, K classes of the classifier.
"""

from collections.abc import Sequence

import numpy as np

from ssl_tasks.evaluate.knn import Floats, Ints

UNKNOWN = -1
"""Number of a class that the classifier does not know."""


def accuracy(logits_QK: Floats, labels_Q: Ints) -> float:
    """Share of the images whose class has the highest logit; one of a class that the classifier does not know counts as wrong."""
    return float(np.mean(logits_QK.argmax(1) == labels_Q))


def own_numbers(labels: Ints, names: Sequence[str], classes: Sequence[str]) -> Ints:
    """Labels that number `names`, as they number a classifier's `classes`; UNKNOWN where it does not know them, or there is no label."""
    number = {name: i for i, name in enumerate(classes)}
    table = np.array([*(number.get(name, UNKNOWN) for name in names), UNKNOWN])  # a label of -1 takes the last
    found: Ints = table[labels]
    return found
