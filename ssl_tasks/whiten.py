"""Whiten: an encoder whose features are whitened as they lie on a corpus, and brought to length 1.

The mean and a PCA whitening of a checkpoint's features on the kept train images of a Dataset become the encoder's last layer, so that
whatever takes a Checkpoint takes it. https://arxiv.org/abs/2202.10261, section 4.4.
"""

from typing import Any

import numpy as np
import torch

from schemas.artifacts import Artifact, Checkpoint, Dataset, read
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Whiten
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import load_encoder, save_encoder
from ssl_tasks.data import manifest
from ssl_tasks.data.files import open_images
from ssl_tasks.data.store import side_for
from ssl_tasks.nn.descriptor import whitening
from ssl_tasks.nn.encoder import parameters
from ssl_tasks.nn.features import features
from ssl_tasks.tracking import Tracker


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


def _check(images: int, kept: int, dim: int, stage: Whiten) -> None:
    if kept > dim:
        raise UserError(f"dim {kept} is more than the {dim} dimensions of checkpoint '{stage.checkpoint}': set it to {dim} or less, or leave it out")
    if images <= kept:
        few = f"set dim below {images}, or take more images" if images > 1 else "take more images"
        raise UserError(f"{kept} components cannot be told from {images} images of dataset '{stage.dataset}': {few}")
