"""What is known of leaks, kept beside a Dataset's manifest: train images that are near duplicates of images models are evaluated on.

`leaks.parquet` has a row a pair, `leaks_checked.parquet` a row an evaluation image that was compared, with or without a leak. A later
curation carries both on, so that every report over a model trained on the dataset can tell.
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.artifacts import Dataset
from schemas.errors import UserError

PAIRS, CHECKED = "leaks.parquet", "leaks_checked.parquet"
SCHEMAS = {
    PAIRS: pa.schema(
        [
            pa.field("train_id", pa.int64(), nullable=False),
            pa.field("train_sha256", pa.string(), nullable=False),
            pa.field("set", pa.string(), nullable=False),
            pa.field("set_name", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("eval_id", pa.int64(), nullable=False),
            pa.field("eval_sha256", pa.string(), nullable=False),
            pa.field("similarity", pa.float32(), nullable=False),
            pa.field("dropped", pa.bool_(), nullable=False),
        ]
    ),
    CHECKED: pa.schema(
        [
            pa.field("set", pa.string(), nullable=False),
            pa.field("set_name", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("eval_id", pa.int64(), nullable=False),
            pa.field("eval_sha256", pa.string(), nullable=False),
            pa.field("threshold", pa.float64(), nullable=False),
            pa.field("embedding", pa.string(), nullable=False),
        ]
    ),
}
"""`set` is the key of the evaluation set, `set_name` the stage that made it; `embedding` the config by which images were compared, as JSON."""


def read(dataset: Dataset, file: str) -> pa.Table:
    """One of the two tables; empty where no step looked for leaks.

    Raises:
        UserError: where the file is damaged.
    """
    if file not in dataset.files:
        return SCHEMAS[file].empty_table()
    try:
        return pq.read_table(dataset.path(file)).cast(SCHEMAS[file])
    except (OSError, ValueError) as error:
        raise UserError(f"{dataset.path(file)} is damaged: run stage '{dataset.stage}' again with `--force {dataset.stage}`") from error


def carry(dataset: Dataset, folder: Path) -> None:
    """Copy what is known of a dataset's leaks into the folder of one that is made from it."""
    for file in SCHEMAS.keys() & dataset.files.keys():
        shutil.copyfile(dataset.path(file), folder / file)


def add(folder: Path, pairs: pa.Table, checked: pa.Table) -> None:
    """Append to the tables in a folder, or begin them; equal content gives equal bytes."""
    for file, table in ((PAIRS, pairs), (CHECKED, checked)):
        path = folder / file
        known = [pq.read_table(path)] if path.exists() else []
        pq.write_table(pa.concat_tables([*known, table.cast(SCHEMAS[file])]).combine_chunks(), path, compression="zstd")
