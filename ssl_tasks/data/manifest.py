"""The manifest: one row per image of the raw pool, in an order that never changes; no row is ever dropped.

Columns: `id` is the row's number. `uri` is relative to the workspace, or absolute outside it. `width`, `height` and `mode` are
the header's, null where it has none that is valid. `kept` says whether training may use the row, and `why`, once a step has
removed it, which step and for what reason. `duplicate_of` is the id of the image that this step kept in its place (a later
step may have removed that one too); `cluster` the one that `balance` put it in.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.artifacts import Dataset
from schemas.errors import UserError

FILE = "manifest.parquet"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("mode", pa.string()),
        pa.field("label", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
        pa.field("duplicate_of", pa.int64()),
        pa.field("cluster", pa.int32()),
    ]
)


def build(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """A fresh manifest of rows with `uri`, `sha256`, `bytes`, `width`, `height`, `mode`, `label` and `split`: all are kept."""
    fresh = {"kept": True, "why": "", "duplicate_of": None, "cluster": None}
    return pa.Table.from_pylist([{"id": i, **fresh, **row} for i, row in enumerate(rows)], schema=SCHEMA)


def write(table: pa.Table, folder: Path) -> None:
    """Write the manifest into an artifact's folder; equal content gives equal bytes."""
    pq.write_table(table.combine_chunks(), folder / FILE, compression="zstd")


def read(dataset: Dataset) -> pa.Table:
    """The manifest of a Dataset.

    Raises:
        UserError: where the file is damaged.
    """
    path = dataset.path(FILE)
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is damaged: run stage '{dataset.stage}' again with `--force {dataset.stage}`") from error


def kept(table: pa.Table, split: str = "train") -> pa.Table:
    """The rows of one split that are kept, in order."""
    return table.filter(column(table, "kept") & (column(table, "split") == split))


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """One column as an array; a column with nulls holds None there."""
    values: NDArray[Any] = table[name].to_numpy(zero_copy_only=False)
    return values if table[name].null_count == 0 else np.array(table[name].to_pylist(), dtype=object)


def replace(table: pa.Table, **columns: Sequence[Any] | NDArray[Any]) -> pa.Table:
    """The manifest with some columns exchanged for others of the same type."""
    for name, values in columns.items():
        index = SCHEMA.get_field_index(name)
        table = table.set_column(index, SCHEMA.field(index), pa.array(values, type=SCHEMA.field(index).type))
    return table
