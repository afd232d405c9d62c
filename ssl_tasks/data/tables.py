"""Images in tables: Parquet files and Arrow IPC files, with a column of encoded images and perhaps one of labels.

An image is a cell with bytes, or a struct of `bytes` and `path` as Hugging Face `datasets` writes them. Of the struct only the
bytes are read: a `path` could name any file of the reader's machine. A cell without bytes is listed and cannot be read.
"""

import errno
import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import UserError

LARGEST_GROUP = 512_000_000
"""Bytes of a row group of a Parquet file. To read one image takes decoding its row group."""
_HELD = 4
_groups: OrderedDict[tuple[Path, int, int, str], pa.ChunkedArray] = OrderedDict()
_lock = Lock()


def is_parquet(path: Path) -> bool:
    """Whether a table is a Parquet file; an Arrow file otherwise."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def labels(path: Path, image: str, label: str | None, names: Sequence[str] | None = None) -> list[str | None]:
    """The label of each row of a table; all None where no column of labels is asked for.

    Args:
        image: column that must hold images.
        label: column of labels.
        names: of classes, that numbers in the column count from 0. A Parquet file that Hugging Face wrote says them itself.

    Raises:
        UserError: where the file cannot be read, lacks a column, or has one of another type.
    """
    if is_parquet(path):
        file = _parquet(path, *_state(path))
        schema, rows = file.schema_arrow, file.metadata.num_rows
        _check_groups(path, file)
        names = names or class_names(_written_by_hugging_face(schema), label)
    else:
        table = _arrow(path, *_state(path))
        schema, rows = table.schema, len(table)
    for column in (image, label):
        if column is not None and column not in schema.names:
            raise UserError(f"{path} has no column '{column}': set `source.{'image' if column == image else 'label'}` to one of {', '.join(schema.names)}")
    if not _holds_images(schema.field(image).type):
        raise UserError(f"column '{image}' of {path} holds {schema.field(image).type}, not encoded images (bytes, or a struct with `bytes`)")
    if label is None:
        return [None] * rows
    values = _damage_told(path, lambda: file.read(columns=[label])[label]) if is_parquet(path) else table[label]
    if pa.types.is_nested(values.type) or pa.types.is_floating(values.type) or pa.types.is_binary(values.type):
        raise UserError(f"column '{label}' of {path} holds {values.type}: labels are whole numbers or text")
    return [_named(value, names) for value in _damage_told(path, values.to_pylist)]


def class_names(features: dict[str, Any], label: str | None) -> list[str] | None:
    """Names of classes as Hugging Face states them of a column; None where it does not."""
    feature = features.get(label or "")
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else None


def read_parquet(path: Path, row: int, column: str) -> bytes:
    """The image in one row. Its row group is held for the next rows, so that rows in their order decode each group once.

    Raises:
        OSError: where there is no such row or column, or nothing in it.
        UserError: where the file is damaged.
    """
    state = _state(path)
    file = _parquet(path, *state)
    if row >= file.metadata.num_rows or column not in file.schema_arrow.names:
        raise FileNotFoundError(errno.ENOENT, "the table has no such row or column")
    starts = _starts(path, *state)
    group = int(np.searchsorted(starts, row, "right")) - 1
    place = row - int(starts[group])
    with _lock:
        key = (path, state[1], group, column)
        if key not in _groups:
            _groups[key] = _damage_told(path, lambda: _parquet(path, *state).read_row_group(group, columns=[column])[column])
            while len(_groups) > _HELD:
                _groups.popitem(last=False)
        _groups.move_to_end(key)
        cells = _groups[key]
    if place >= len(cells):
        raise UserError(f"{path} is damaged (row group {group} has fewer rows than it says): write it again")
    return _bytes(cells[place])


def read_arrow(path: Path, row: int, column: str) -> bytes:
    """The image in one row, read where it lies in the memory-mapped file.

    Raises:
        OSError: where there is no such row or column, or nothing in it.
        UserError: where the file is damaged.
    """
    table = _arrow(path, *_state(path))
    if row >= len(table) or column not in table.column_names:
        raise FileNotFoundError(errno.ENOENT, "the table has no such row or column")
    return _bytes(table[column][row])


def _bytes(cell: pa.Scalar) -> bytes:
    if isinstance(cell, pa.StructScalar) and cell.is_valid:
        cell = cell["bytes"]
    if not cell.is_valid:
        raise OSError(errno.ENODATA, "the row holds no bytes of an image")
    found: bytes = cell.as_py()
    return found


def _named(value: Any, names: Sequence[str] | None) -> str | None:
    if value is None or (names and value == -1):  # Hugging Face's number for no class
        return None
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else str(value)


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_images(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _written_by_hugging_face(schema: pa.Schema) -> dict[str, Any]:
    """The features that `datasets` notes in a Parquet file's schema."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _check_groups(path: Path, file: pq.ParquetFile) -> None:
    about = file.metadata
    if about.num_rows != sum(about.row_group(i).num_rows for i in range(about.num_row_groups)):
        raise UserError(f"{path} is damaged (its row groups do not add up to its rows): write it again")
    # Of the whole group, since a damaged file's figures of one column end the process when pyarrow is asked for them.
    for number in range(about.num_row_groups):
        if (size := about.row_group(number).total_byte_size) > LARGEST_GROUP:
            raise UserError(
                f"row group {number} of {path} holds {size / 1e6:,.0f} MB, and its images are all decoded to read one: "
                f"write the file again with row groups below {LARGEST_GROUP / 1e6:.0f} MB (pyarrow's `row_group_size=1000`)"
            )


def _state(path: Path) -> tuple[int, int]:
    """What a cache of the file's content goes by: its size and time."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=256)
def _parquet(path: Path, _size: int, _modified: int) -> pq.ParquetFile:
    return _damage_told(path, lambda: pq.ParquetFile(path, memory_map=True))


@lru_cache(maxsize=256)
def _starts(path: Path, size: int, modified: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first row of each row group."""
    about = _parquet(path, size, modified).metadata
    counts = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])[:-1]


@lru_cache(maxsize=4096)
def _arrow(path: Path, _size: int, _modified: int) -> pa.Table:
    def mapped() -> pa.Table:
        file = pa.memory_map(str(path))
        try:
            table = pa.ipc.open_stream(file).read_all()
        except pa.ArrowInvalid:  # the other of the two formats
            file.seek(0)
            table = pa.ipc.open_file(file).read_all()
        table.validate(full=True)  # damaged offsets would be followed out of the file, and kill the process
        return table

    return _damage_told(path, mapped)


def _damage_told(path: Path, read: Any) -> Any:
    try:
        return read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged, or no table ({' '.join(str(error).split())[:200]}): write it again") from error
