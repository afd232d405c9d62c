"""Vectors of images that curation compares: shrunken pixels, or features of a network; always of length 1."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from schemas.artifacts import Checkpoint, read
from schemas.embeddings import Embedding, Encoded, Pixels
from schemas.job import Job
from ssl_tasks.curate import shards
from ssl_tasks.data.files import open_images
from ssl_tasks.data.known import Known
from ssl_tasks.data.store import read_listed, side_for


def embeddings(rows: pa.Table, config: Embedding, job: Job, mapper: shards.Mapper, progress: shards.Progress) -> NDArray[np.float32]:
    """(N, dim), float32, of length 1; zeros where all pixels are equal. Of images seen before they are kept from then.

    Raises:
        UserError: where an image cannot be decoded.
    """
    if isinstance(config, Pixels):
        known = Known(job.cache / f"embeddings-pixels-{config.side}", vectors_of(config.side**2))
        made = shards.of_each(rows, Shrink(job.workspace, config.side), known, mapper, progress)
        return unit(matrix(made))
    assert isinstance(config, Encoded)
    return unit(encoded(rows, config, job))


@dataclass(frozen=True)
class Shrink:
    """Grey pixels of each whole image, shrunk to `side` x `side` whatever its shape, minus their mean: (N, side * side)."""

    workspace: Path
    side: int

    def __call__(self, files: pa.Table) -> pa.Table:
        vectors = np.empty((len(files), self.side**2), np.float32)
        for row, (uri, sha256) in enumerate(zip(files["uri"].to_pylist(), files["sha256"].to_pylist(), strict=True)):
            image = read_listed(uri, sha256, self.workspace).convert("L").resize((self.side, self.side), Image.Resampling.BILINEAR)
            vectors[row] = np.asarray(image, np.float32).ravel()
        return table_of(files, vectors - vectors.mean(1, keepdims=True))


def vectors_of(dim: int) -> pa.Schema:
    """The schema of vectors of one length."""
    return pa.schema([pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)])


def table_of(files: pa.Table, vectors: NDArray[np.float32]) -> pa.Table:
    """Vectors (N, dim) beside the images that they are of."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"sha256": files["sha256"], "vector": column})


def matrix(table: pa.Table) -> NDArray[np.float32]:
    """The vectors of a table, (N, dim)."""
    flat: NDArray[np.float32] = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), table.schema.field("vector").type.list_size)


def encoded(table: pa.Table, config: Encoded, job: Job) -> NDArray[np.float32]:
    """Features of each image by the Checkpoint that the config names: (N, dim)."""
    import torch  # with timm the longest import by far, and of use here alone

    from ssl_tasks.checkpoints import load_encoder
    from ssl_tasks.nn.features import features

    checkpoint = read(job.folder(job.inputs[config.checkpoint]))
    assert isinstance(checkpoint, Checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = checkpoint.encoder
    side = side_for(table, encoder.image_size)
    images = open_images(table, job.workspace, side, encoder.channels, job.cache, job.stage.resources.store)
    return features(load_encoder(checkpoint, device), images, checkpoint.mean, checkpoint.std, device=device)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled
