"""Whiten: an encoder whose features are whitened as they lie on a corpus, and brought to length 1.

The mean and a PCA whitening of a checkpoint's features on the kept train images of a Dataset become the encoder's last layer, so that
whatever takes a Checkpoint takes it. https://arxiv.org/abs/2202.10261, section 4.4. Shapes: N images, D dimensions, K kept components.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.artifacts import Artifact, Checkpoint, Dataset, read
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Whiten
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import load_encoder, save_encoder
from ssl_tasks.data import manifest
from ssl_tasks.data.files import open_images
from ssl_tasks.data.store import side_for
from ssl_tasks.nn.encoder import parameters
from ssl_tasks.nn.features import features
from ssl_tasks.tracking import Tracker

CHUNK = 10_000
"""Rows that are turned into float64 at a time."""


def whiten(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Run a Whiten stage: embed a sample of the images, fit, and seal the encoder with its new last layer.

    Raises:
        UserError: where there are too few images for the dimensions, they all look the same to the encoder, or it is whitened already.
    """
    stage = job.stage
    assert isinstance(stage, Whiten)
    dataset, checkpoint = (read(job.folder(job.inputs[name])) for name in (stage.dataset, stage.checkpoint))
    assert isinstance(dataset, Dataset)
    assert isinstance(checkpoint, Checkpoint)
    table = manifest.kept(manifest.read(dataset))
    table = table.take(np.sort(np.random.default_rng(stage.seed).permutation(len(table))[: stage.sample]))
    kept = stage.dim or checkpoint.dim
    _check(len(table), kept, checkpoint.dim, stage)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = load_encoder(checkpoint, device)
    side = side_for(table, encoder.config.image_size)
    images = open_images(table, job.workspace, side, encoder.config.channels, job.cache, stage.resources.store)
    mean, matrix, share = whitening(features(encoder, images, checkpoint.mean, checkpoint.std, device=device), kept, stage.power, stage.epsilon)
    encoder.cpu().add_whitening(torch.from_numpy(mean), torch.from_numpy(matrix))
    folder = artifacts.draft(job)
    save_encoder(folder, encoder)
    tracker.params({"images": len(table)})
    fields: dict[str, Any] = {"encoder": encoder.config.model_dump(mode="json"), "mean": checkpoint.mean, "std": checkpoint.std, "dim": encoder.dim}
    metrics = {"explained_variance": share, "parameters": parameters(encoder)}
    return {"": artifacts.seal(job, folder, exported=f"{checkpoint.exported}, whitened", metrics=metrics, **fields)}


def whitening(features_ND: NDArray[np.float32], kept: int, power: float = 0.5, epsilon: float = 1e-5) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """The mean (D,) and the matrix (K, D) of a PCA whitening, largest variance first, and the share of the variance that is kept.

    Computed in float64. The largest entry of each row is positive, which makes of the two signs that are right one.

    Args:
        power: of the variance that each component is divided by.
        epsilon: share of the largest variance that smaller ones are raised to.

    Raises:
        UserError: where all features are the same.
    """
    mean = features_ND.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for start in range(0, len(features_ND), CHUNK):
        centred = features_ND[start : start + CHUNK] - mean
        covariance += centred.T @ centred
    covariance /= max(1, len(features_ND) - 1)
    variances, directions = np.linalg.eigh(covariance)
    variances, directions = variances[::-1].clip(0), directions.T[::-1]
    if not variances[0] > 0:
        raise UserError("the checkpoint gives all images the same features: there is nothing to whiten")
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    scaled = signs[:, None] * directions / variances.clip(epsilon * variances[0])[:, None] ** power
    return mean.astype(np.float32), scaled[:kept].astype(np.float32), float(variances[:kept].sum() / variances.sum())


def _check(images: int, kept: int, dim: int, stage: Whiten) -> None:
    if kept > dim:
        raise UserError(f"dim {kept} is more than the {dim} dimensions of checkpoint '{stage.checkpoint}': set it to {dim} or less, or leave it out")
    if images <= kept:
        few = f"set dim below {images}, or take more images" if images > 1 else "take more images"
        raise UserError(f"{kept} components cannot be told from {images} images of dataset '{stage.dataset}': {few}")
