"""Measures: what one decoding of an image tells, made once for every step that asks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.job import Job
from ssl_tasks.curate import shards
from ssl_tasks.data.images import Unreadable, open_image, pixel_digest
from ssl_tasks.data.known import Known
from ssl_tasks.data.store import listed_bytes

VERSION = 1
"""Raised when the same image would give other values."""
SCHEMA = pa.schema(
    [
        pa.field("fault", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("contrast", pa.float32()),
        pa.field("sharpness", pa.float32()),
        pa.field("digest", pa.string()),
        pa.field("phash", pa.uint64()),
        pa.field("dhash", pa.uint64()),
    ]
)
"""`fault`: why the file gives no picture, empty where it does; all others are null then. `width` and `height`: upright, in pixels.
`contrast`: standard deviation of grey. `sharpness`: variance of grey's Laplacian. `digest`: of the decoded pixels. `phash`, `dhash`: 64 bits."""


def measures(rows: pa.Table, job: Job, mapper: shards.Mapper, progress: shards.Progress) -> pa.Table:
    """(N rows, columns of `SCHEMA` after `sha256`), in the order of `rows`."""
    return shards.of_each(rows, Measure(job.workspace), Known(job.cache / f"measures-{VERSION}", SCHEMA), mapper, progress)


@dataclass(frozen=True)
class Measure:
    """Decodes images one by one; see `SCHEMA`."""

    workspace: Path

    def __call__(self, files: pa.Table) -> pa.Table:
        rows = [self._one(*file) for file in zip(files["uri"].to_pylist(), files["sha256"].to_pylist(), strict=True)]
        return pa.Table.from_pylist(rows, schema=pa.schema([pa.field("sha256", pa.string()), *SCHEMA]))

    def _one(self, uri: str, sha256: str) -> dict[str, Any]:
        if not sha256:  # it could not be read when it was listed
            return {"sha256": sha256, "fault": "unreadable"}
        try:
            image = open_image(listed_bytes(uri, sha256, self.workspace))
        except Unreadable as error:
            return {"sha256": sha256, "fault": error.reason}
        grey = np.asarray(image.convert("L"), np.float32)
        seen = {"width": image.width, "height": image.height, "digest": pixel_digest(image), "contrast": float(grey.std())}
        return {"sha256": sha256, "fault": "", **seen}
