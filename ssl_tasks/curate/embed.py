"""Vectors of images that curation compares: shrunken pixels, or features of a Checkpoint; always of length 1."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from schemas.artifacts import Checkpoint, read
from schemas.curation import Encoded, Pixels
from schemas.job import Job
from ssl_tasks.data.files import open_images
from ssl_tasks.data.store import parallel, read_listed, side_for


class Embeddings:
    """Embeddings of the rows of one manifest, each made once: a later step asks for fewer rows, not for others."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._made: dict[Pixels | Encoded, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}

    def of(self, table: pa.Table, config: Pixels | Encoded) -> NDArray[np.float32]:
        """(N, dim), float32, of length 1; zeros where all pixels are equal.

        Raises:
            UserError: where an image cannot be decoded.
        """
        ids = table["id"].to_numpy()
        known, vectors = self._made.get(config, (np.empty(0, np.int64), np.empty((0, 0), np.float32)))
        if not np.isin(ids, known).all():
            known, vectors = ids, unit(pixels(table, self._job.workspace, config.side) if isinstance(config, Pixels) else encoded(table, config, self._job))
            self._made[config] = known, vectors
        asked: NDArray[np.float32] = vectors[np.searchsorted(known, ids)]
        return asked


def pixels(table: pa.Table, workspace: Path, side: int) -> NDArray[np.float32]:
    """Grey pixels of each whole image, shrunk to `side` x `side` whatever its shape, minus their mean: (N, side * side)."""

    def shrunk(file: tuple[str, str]) -> NDArray[np.float32]:
        image = read_listed(workspace / file[0], file[1]).convert("L").resize((side, side), Image.Resampling.BILINEAR)
        values: NDArray[np.float32] = np.asarray(image, np.float32).ravel()
        values -= values.mean()
        return values

    files = list(zip(table["uri"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    return np.stack(list(parallel(shrunk, files)))


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
