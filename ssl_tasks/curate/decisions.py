"""What a curation step decides of the rows that it was given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

NOBODY = -1
"""In `duplicate_of`, where nothing is kept in a row's place."""


@dataclass
class Decisions:
    """What one step decides of each row that it considered, in their order.

    Attributes:
        removed: (N,), true where the row goes.
        reasons: in a few words, one for all rows or one a row; read where a row goes.
        duplicate_of: (N,), id of the row that is kept in a removed one's place; `NOBODY` where there is none.
        splits: the split of each row from now on; None where the step moves none.
        facts: further columns of the manifest that the step fills, among `contrast`, `sharpness` and `cluster`.
        said: provenance, each a column of N values: what the step saw in a row, such as its component or its nearest seed.
        metrics: numbers besides how many rows were considered, removed and kept.
        notes: lines for the person who watches.
        report: what else the report shows of the step, as JSON values, such as a calibration curve.
    """

    removed: NDArray[np.bool_]
    reasons: str | Sequence[str] = ""
    duplicate_of: NDArray[np.int64] | None = None
    splits: Sequence[str] | None = None
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    said: Mapping[str, NDArray[Any] | pa.Array] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def reason(self, row: int) -> str:
        """Why a row goes."""
        return self.reasons if isinstance(self.reasons, str) else self.reasons[row]


def representatives(groups: NDArray[Any], *best: NDArray[Any]) -> NDArray[np.int64]:
    """For each row the row that stands for its group: first by the values of `best`, smallest first, then by its place.

    Args:
        groups: (N,), rows of equal value are one group.
        best: (N,) each, the most important first; negate what should be large.
    """
    order = np.lexsort((np.arange(len(groups)), *reversed(best), groups))
    first = np.r_[True, groups[order][1:] != groups[order][:-1]] if len(order) else np.zeros(0, bool)
    stands: NDArray[np.int64] = np.empty(len(groups), np.int64)
    stands[order] = order[np.flatnonzero(first)[np.cumsum(first) - 1]]
    return stands
