"""Which images a model is judged on: the kept train images are the bank, the test split are the queries."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ssl_tasks.data.manifest import column
from ssl_tasks.evaluate import held_out as holding
from ssl_tasks.evaluate.neighbours import Ints

BANK, QUERIES, HELD = "train", "test", "val"
UNKNOWN = -1
"""Number of a class that is not known."""


@dataclass(frozen=True)
class Split:
    """Rows of `table` by the part that they play.

    Attributes:
        table: the kept images of these splits, in the manifest's order.
        train: rows of the train split, labelled or not.
        bank: those of them with a label.
        queries: rows of the test split: those with a label where any has one.
        held: labelled rows that a temperature is fitted to: of the val split where it is asked for and has any, else a tenth of each class of the bank.
        held_out: whether those are of the val split, which nothing is trained on.
        labels: class of every row as an index of `classes`, -1 where it has none.
        id: sha256 of the ids and labels of bank (or train) and queries: equal for equal splits.
    """

    table: pa.Table
    train: Ints
    bank: Ints
    queries: Ints
    labels: Ints
    classes: list[str]
    id: str
    held: Ints
    held_out: bool

    @property
    def labelled(self) -> bool:
        """Whether both bank and queries have labels."""
        return bool(self.classes) and len(self.bank) > 0 and len(self.queries) > 0

    @property
    def unseen(self) -> Ints:
        """Test images of a class that no labelled train image has: no probe can name it, so that they count as wrong."""
        labels = self.labels[self.queries]
        found: Ints = self.queries[(labels != UNKNOWN) & ~np.isin(labels, self.labels[self.bank])]
        return found

    def notes(self, dataset: str) -> list[str]:
        """What a reader of the numbers must know of the split, a line each."""
        if not self.labelled or not len(self.unseen):
            return []
        names = [self.classes[label] for label in np.unique(self.labels[self.unseen])]
        told = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return [
            f"{len(self.unseen):,} of the {len(self.queries):,} test images of '{dataset}' are of classes without a labelled train image "
            f"({told}): they count as wrong"
        ]


def split(manifest: pa.Table, seed: int = 0, val: bool = False) -> Split:
    """The parts of a manifest.

    Args:
        seed: of the choice of held rows.
        val: whether images of the val split are wanted.
    """
    parts = column(manifest, "split")
    table = manifest.filter(pa.array(column(manifest, "kept") & np.isin(parts, [BANK, QUERIES, *([HELD] if val else [])])))
    named = table["label"].to_pylist()
    classes = sorted({name for name in named if name is not None}, key=natural)
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([-1 if name is None else index[name] for name in named], dtype=np.int64)
    train, queries, held = (np.flatnonzero(column(table, "split") == part) for part in (BANK, QUERIES, HELD))
    bank, held = (rows[labels[rows] >= 0] for rows in (train, held))
    held_out = len(held) > 0
    if not held_out and len(bank):
        held = bank[holding.split(labels[bank], seed)[0]]
    if (labels[queries] >= 0).any():
        queries = queries[labels[queries] >= 0]
    ids = column(table, "id")
    digest = hashlib.sha256()
    for name, rows in (("bank", bank if len(bank) else train), ("queries", queries)):
        digest.update(f"{name}\n".encode())
        digest.update("".join(f"{ids[row]}\t{named[row] or ''}\n" for row in rows).encode())
    return Split(table, train, bank, queries, labels, classes, digest.hexdigest(), held, held_out)


def natural(name: str) -> tuple[Any, ...]:
    """Sort key by which class 10 comes after class 9."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def own_numbers(labels: Ints, names: Sequence[str], classes: Sequence[str]) -> Ints:
    """Labels that number `names`, as they number a classifier's `classes`; UNKNOWN where it does not know them, or there is no label."""
    number = {name: i for i, name in enumerate(classes)}
    table = np.array([*(number.get(name, UNKNOWN) for name in names), UNKNOWN])  # a label of -1 takes the last
    found: Ints = table[labels]
    return found
