"""Pool: what a curation step decides on, and what it may ask for."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.artifacts import Dataset, read
from schemas.embeddings import Embedding, Pixels
from schemas.errors import UserError
from schemas.job import Job
from ssl_tasks.curate import shards
from ssl_tasks.curate.embed import embeddings
from ssl_tasks.curate.measures import measures
from ssl_tasks.data import manifest
from ssl_tasks.data.containers import place


@dataclass
class Pool:
    """The manifest as the steps so far left it.

    Attributes:
        table: all of it.
        rows: those that the step decides on.
        step: its name, such as `3_deduplicate`.
        seed: of everything random in the step.
        payload: folder of the Dataset that is being made; a step may leave files there.
        measured: what likeness is measured on where the step does not say.
    """

    job: Job
    table: pa.Table
    rows: pa.Table
    step: str
    seed: int
    payload: Path
    mapper: shards.Mapper
    progress: shards.Progress
    measured: Embedding = field(default_factory=Pixels)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Of each row, (N,)."""
        found: NDArray[np.int64] = self.rows["id"].to_numpy()
        return found

    def measures(self, rows: pa.Table | None = None) -> pa.Table:
        """What decoding tells of each row's image (columns in `measures.py`); of images seen before it is known without decoding."""
        return measures(self.rows if rows is None else rows, self.job, self.mapper, self.progress)

    def pictures(self, rows: pa.Table | None = None) -> pa.Table:
        """The measures of rows that all must be pictures.

        Raises:
            UserError: where one gives none.
        """
        rows = self.rows if rows is None else rows
        found = self.measures(rows)
        for uri, fault in zip(rows["uri"].to_pylist(), found["fault"].to_pylist(), strict=True):
            if fault:
                where = place(uri, self.job.workspace)
                raise UserError(f"image {where} cannot be decoded ({fault}): let a curate stage with the step `integrity` remove it")
        return found

    def embeddings(self, embedding: Embedding | None = None, rows: pa.Table | None = None) -> NDArray[np.float32]:
        """(N, dim), float32, of length 1; zeros where an embedding has no direction, such as that of equal pixels.

        Args:
            rows: of this or of another manifest; the step's own where not given.

        Raises:
            UserError: where an image cannot be decoded.
        """
        return embeddings(self.rows if rows is None else rows, embedding or self.measured, self.job, self.mapper, self.progress)

    def elsewhere(self) -> pa.Table:
        """The kept rows of this manifest's other splits."""
        return self.table.filter(manifest.column(self.table, "kept") & (manifest.column(self.table, "split") != "train"))

    def dataset(self, reference: str) -> Dataset:
        """Another Dataset that the step's config names."""
        found = read(self.job.folder(self.job.inputs[reference]))
        assert isinstance(found, Dataset)
        return found
