"""Vectors of images that curation compares: shrunken pixels, or features of a network; always of length 1."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from schemas.embeddings import Embedding, Pixels
from schemas.errors import UserError
from schemas.job import Job
from ssl_tasks.curate import shards
from ssl_tasks.curate.vectors import table_of, vectors, vectors_of
from ssl_tasks.data.containers import place
from ssl_tasks.data.known import Known
from ssl_tasks.data.store import read_listed

VERSION = 2
"""Raised when the same image would give another vector."""


def embeddings(rows: pa.Table, config: Embedding, job: Job, mapper: shards.Mapper, progress: shards.Progress) -> NDArray[np.float32]:
    """(N, dim), float32, of length 1; zeros where all pixels are equal. Of images seen before they are kept from then.

    Raises:
        UserError: where an image cannot be decoded, or weights do not fit.
    """
    unread = rows.filter(pc.equal(rows["sha256"], ""))
    if len(unread):
        where = place(unread["uri"][0].as_py(), job.workspace)
        raise UserError(f"image {where} could not be read when it was listed: let a curate stage with the step `integrity` remove it")
    work, known = _maker(config, job)
    files = shards.make_known(rows, work, known, mapper, progress)
    return vectors(known, files["sha256"].combine_chunks())


def _maker(config: Embedding, job: Job) -> tuple[shards.Work, Known]:
    """What makes the vectors, and where they are kept."""
    if isinstance(config, Pixels):
        return Shrink(job.workspace, config.side), Known(job.cache / f"embeddings-pixels-{config.side}-{VERSION}", vectors_of(config.side**2))
    from ssl_tasks.curate.encode import Encode  # with torch and timm the longest import by far, and of use here alone

    work = Encode.of(config, job)
    return work, Known(job.cache / f"embeddings-{work.name}-{VERSION}", vectors_of(work.dim))


@dataclass(frozen=True)
class Shrink:
    """Grey pixels of each whole image, shrunk to `side` x `side` whatever its shape, minus their mean: (N, side * side)."""

    workspace: Path
    side: int

    def __call__(self, files: pa.Table) -> pa.Table:
        grey = np.empty((len(files), self.side**2), np.float32)
        for row, (uri, sha256) in enumerate(zip(files["uri"].to_pylist(), files["sha256"].to_pylist(), strict=True)):
            image = read_listed(uri, sha256, self.workspace).convert("L").resize((self.side, self.side), Image.Resampling.BILINEAR)
            grey[row] = np.asarray(image, np.float32).ravel()
        return table_of(files, grey - grey.mean(1, keepdims=True))
