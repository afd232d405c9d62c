"""What a curation step decides of the rows that it was given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Removed(NamedTuple):
    """One row that a step removes.

    Attributes:
        id: of the row in the manifest.
        reason: in a few words.
        duplicate_of: id of the row that is kept in its place; None where there is none.
    """

    id: int
    reason: str
    duplicate_of: int | None = None


@dataclass
class Decisions:
    """Removals by one step, and what else it has to say.

    Attributes:
        clusters: of each row that was considered, in order; None where the step does not cluster.
        metrics: further numbers, besides how many rows were considered, removed and kept.
        notes: lines for the person who watches.
    """

    removed: list[Removed]
    clusters: NDArray[np.int32] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def representatives(groups: Sequence[Any], ids: Sequence[int], areas: Sequence[int]) -> dict[int, int]:
    """For each id the one that stands for its group: of largest area, then of lowest id."""
    best: dict[Any, tuple[int, int]] = {}
    for group, id_, area in zip(groups, ids, areas, strict=True):
        best[group] = min(best.get(group, (-area, id_)), (-area, id_))
    return {id_: best[group][1] for group, id_ in zip(groups, ids, strict=True)}
