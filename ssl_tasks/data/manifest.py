"""The manifest: one row per image of the raw pool, in an order that never changes; no row is ever dropped.

Columns: `id` is the row's number. `uri` says where the image lies: relative to the workspace or absolute, in a container or at
an address (`ssl_tasks/data/containers.py`). `width`, `height` and `mode` are the header's, null where it has none that is valid;
`contrast` and `sharpness` the picture's, null where no step measured them. `kept` says whether training may use the row, and
`why`, once a step has removed it, which step and for what reason. `duplicate_of` is the id of the image that this step kept in
its place (a later step may have removed that one too); `cluster` the finest one that it was put in last.

After these come the provenance columns, `STEP.NAME` such as `3_deduplicate.component`: what a step saw in each row that it
looked at, and in `STEP.kept` whether the row stayed; null in the others. Steps are numbered through, over all curations that a
manifest went through; `steps` names them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
        pa.field("contrast", pa.float32()),
        pa.field("sharpness", pa.float32()),
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
    fresh = {"kept": True, "why": "", "duplicate_of": None, "cluster": None, "contrast": None, "sharpness": None}
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
        table = pq.read_table(path)
        return table.cast(pa.schema([*SCHEMA, *list(table.schema)[len(SCHEMA) :]], table.schema.metadata))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: run stage '{dataset.stage}' again with `--force {dataset.stage}`") from error


def kept(table: pa.Table, split: str = "train") -> pa.Table:
    """The rows of one split that are kept, in order."""
    return table.filter(column(table, "kept") & (column(table, "split") == split))


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """One column as an array; a column with nulls holds None there."""
    values: NDArray[Any] = table[name].to_numpy(zero_copy_only=False)
    return values if table[name].null_count == 0 else np.array(table[name].to_pylist(), dtype=object)


def among(values: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Of each text whether it is one of `others`, in linear time: NumPy compares each with each."""
    found: NDArray[np.bool_] = pc.is_in(pa.array(values, pa.string()), value_set=pa.array(others, pa.string())).to_numpy(zero_copy_only=False)
    return found


def replace(table: pa.Table, **columns: Sequence[Any] | NDArray[Any]) -> pa.Table:
    """The manifest with some columns exchanged for others of the same type."""
    for name, values in columns.items():
        index = SCHEMA.get_field_index(name)
        table = table.set_column(index, SCHEMA.field(index), pa.array(values, type=SCHEMA.field(index).type))
    return table


def annotate(table: pa.Table, step: str, columns: Mapping[str, pa.Array]) -> pa.Table:
    """The manifest with provenance columns of a step, named `STEP.NAME`, behind the others; `step` is noted as taken."""
    for name, values in columns.items():
        table = table.append_column(f"{step}.{name}", values)
    return table.replace_schema_metadata({"sslflow.steps": json.dumps([*steps(table), step])})


def steps(table: pa.Table) -> list[str]:
    """Names of the steps that were taken, in order, such as `1_integrity`."""
    return list(json.loads((table.schema.metadata or {}).get(b"sslflow.steps", b"[]")))


def said(table: pa.Table, step: str) -> dict[str, pa.ChunkedArray]:
    """The provenance columns of a step by their own names."""
    return {name.removeprefix(f"{step}."): table[name] for name in table.column_names if name.startswith(f"{step}.")}
