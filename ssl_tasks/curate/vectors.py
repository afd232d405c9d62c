"""Vectors in tables, and as one array."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssl_tasks.data.known import Known


def vectors_of(dim: int) -> pa.Schema:
    """The schema of vectors of one length."""
    return pa.schema([pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)])


def table_of(files: pa.Table, vectors: NDArray[np.float32]) -> pa.Table:
    """Vectors (N, dim) beside the images that they are of."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"sha256": files["sha256"], "vector": column})


def vectors(known: Known, sha256s: pa.Array) -> NDArray[np.float32]:
    """The known vectors of images, (N, dim), of length 1; besides them only a file's share of rows is held at a time."""
    made = np.empty((len(sha256s), known.schema.field("vector").type.list_size), np.float32)
    for where, table in known.pieces(sha256s):
        made[where] = unit(matrix(table))
    return made


def matrix(table: pa.Table) -> NDArray[np.float32]:
    """The vectors of a table, (N, dim); may be written to."""
    flat: NDArray[np.float32] = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), table.schema.field("vector").type.list_size).copy()


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each row by its length, in place; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    return vectors
