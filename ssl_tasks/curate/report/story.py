"""What the report of a curation is made from."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.curation import Step
from schemas.spec import Spec
from schemas.stages import Curate
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import column

STAYS = -1
"""In `Story.taken`, of an image that no step of this curation removed."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Story:
    """One curation.

    Attributes:
        pool: as the last step left it.
        before: the manifest that came in, N rows.
        after: as it leaves.
        told: what `report.json` says of each step.
        taken: (N,), number of the step that removed the row, from 0; `STAYS` where none did.
    """

    pool: Pool
    before: pa.Table
    after: pa.Table
    told: list[dict[str, Any]]
    taken: NDArray[np.int16]

    @property
    def stage(self) -> Curate:
        assert isinstance(self.pool.job.stage, Curate)
        return self.pool.job.stage

    @property
    def steps(self) -> list[Step]:
        """The steps as they were configured, beside `told`."""
        return self.stage.steps

    @cached_property
    def came(self) -> NDArray[np.bool_]:
        """Which rows are kept train images when the curation begins, (N,)."""
        return of_train(self.before)

    @cached_property
    def stays(self) -> NDArray[np.bool_]:
        """Which rows are kept train images when it ends, (N,)."""
        return of_train(self.after)

    def random(self, *which: int) -> np.random.Generator:
        """Chance that depends on the stage's seed, and on what it is for."""
        return np.random.default_rng((self.stage.seed, *which))


def of_train(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows are kept train images."""
    return np.asarray(column(table, "kept") & (column(table, "split") == "train"), bool)


def in_words(step: Spec) -> str:
    """What a step's config says besides the defaults, in a line."""
    parts = []
    for name, field in type(step).model_fields.items():
        value = getattr(step, name)
        if name == "kind" or value == field.get_default(call_default_factory=True):
            continue
        if isinstance(value, Spec):
            inner = in_words(value)
            value = f"{getattr(value, 'kind', '')} ({inner})" if inner else getattr(value, "kind", "")
        parts.append(f"{name} {value}")
    return ", ".join(parts)
