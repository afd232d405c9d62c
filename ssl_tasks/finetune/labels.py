"""Which labelled images a classifier learns from: a share of each class, and of these some that are held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.data.loader import seed_of

HELD_OUT, MOST = 0.1, 10_000
"""Share of the labelled images that is held out, where any is, and how many at most."""


@dataclass(frozen=True)
class Labelled:
    """Images with a label, of N.

    Attributes:
        classes: their names, sorted.
        numbers: (N,), the class of each image, -1 where it has no label.
        known: how many images have a label.
        rows: of the images that are trained on, rising.
        held_out: of those that are not, to choose the best weights by, rising; empty where none are.
        holds_out: whether there should be any.
    """

    classes: list[str]
    numbers: NDArray[np.int64]
    known: int
    rows: NDArray[np.int64]
    held_out: NDArray[np.int64]
    holds_out: bool

    @classmethod
    def of(cls, labels: Sequence[str | None], dataset: str, share: float, seed: int, holds_out: bool = False) -> Self:
        """Draw `share` of each class's images, at least one; a smaller share draws some of those that a larger one does.

        Args:
            dataset: the images' name in messages.
            holds_out: whether a tenth of what is drawn is held out, where each class keeps an image to learn from.

        Raises:
            UserError: where there are less than two classes.
        """
        classes = sorted({label for label in labels if label is not None})
        if not classes:
            raise UserError(f"dataset '{dataset}' has no labels, and a classifier learns from them: label some train images, such as by folders named by class")
        if len(classes) == 1:
            raise UserError(f"all labelled train images of dataset '{dataset}' are '{classes[0]}': a classifier needs two classes or more")
        number = {label: i for i, label in enumerate(classes)}
        numbers = np.array([-1 if label is None else number[label] for label in labels], dtype=np.int64)
        drawn = [_drawn(np.flatnonzero(numbers == i), share, seed_of(seed, "labels", name)) for i, name in enumerate(classes)]
        rows = np.concatenate(drawn)
        held_out = rows[:0]
        if holds_out:
            spare = np.random.default_rng(seed_of(seed, "held out")).permutation(np.concatenate([each[1:] for each in drawn]))
            held_out = np.sort(spare[: min(MOST, max(1, round(HELD_OUT * len(rows))))])
        return cls(classes, numbers, int((numbers >= 0).sum()), np.setdiff1d(rows, held_out), held_out, holds_out)

    def __str__(self) -> str:
        """What is trained on, in a line."""
        told = f"trains on {len(self.rows):,} of {self.known:,} labelled images of {len(self.classes)} classes"
        if len(self.held_out):
            return f"{told}, and {len(self.held_out):,} more choose the best weights"
        return f"{told}; no class has two, so that none chooses the best weights, and the last are kept" if self.holds_out else told


def _drawn(rows: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(rows)[: max(1, round(share * len(rows)))]
