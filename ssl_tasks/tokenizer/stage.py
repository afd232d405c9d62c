"""Tokenizer stage: a discrete VAE, trained on the kept train images of a Dataset, becomes a Tokenizer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from schemas.artifacts import Artifact
from schemas.job import Job
from schemas.stages import Tokenizer
from ssl_tasks import artifacts, distributed
from ssl_tasks.checkpoints import save_tokenizer
from ssl_tasks.data.loader import seed_of
from ssl_tasks.data.views import MEAN_STD, pixels
from ssl_tasks.learner import Learner
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import parameters
from ssl_tasks.nn.features import prepare
from ssl_tasks.stage import Training
from ssl_tasks.tokenizer.tokenizing import Tokenizing, measured, redrawn
from ssl_tasks.tracking import Tracker
from ssl_tasks.train import fit

JUDGED, SHOWN = 1024, 12
"""Images that the words are judged on, and how many of them are shown."""
RECONSTRUCTIONS = "reconstructions.png"


def train_tokenizer(job: Job, tracker: Tracker, watch: Callable[[Learner], None] | None = None) -> dict[str, Artifact]:
    """Train the network of a Tokenizer stage and seal it.

    Args:
        watch: called with the learner before its first step.

    Raises:
        UserError: where there is too little to train on, the loss is not finite, or the disk is full.
        Collapse: where the monitors find that one word tells everything.
    """
    stage = job.stage
    assert isinstance(stage, Tokenizer)
    torch.manual_seed(seed_of(stage.seed, "weights"))
    network = DVAE(stage.network)
    training = Training(job, stage, stage.network, {"parameters": parameters(network)}, tracker)
    with training.failures_kept():
        learner = fit(Tokenizing(stage, network), training.images, stage.train, begin=watch, **training.fitting(tracker))
    sealed = _seal(training, learner)
    distributed.stop()
    return sealed


def _seal(training: Training, learner: Learner) -> dict[str, Artifact]:
    """The Tokenizer of a learner; nothing on ranks that are not the main one."""
    if not distributed.is_main():
        return {}
    network = learner.method.exported()
    assert isinstance(network, DVAE)
    folder = artifacts.draft(training.job)
    save_tokenizer(folder, network)
    images = judged_on(training, network)
    _show(folder / RECONSTRUCTIONS, network, images[:SHOWN])
    fields = {"network": network.config.model_dump(mode="json")}
    return {"": training.finish(folder, learner, fields, {**measured(network, images), "parameters": parameters(network)})}


def judged_on(training: Training, network: DVAE) -> Tensor:
    """Images of a fixed sample as they are, normalised, where the network is."""
    rows = np.random.default_rng(training.stage.seed).permutation(len(training.images))[:JUDGED]
    images = torch.from_numpy(np.array(training.images[rows])).to(network.read.weight.device)
    return prepare(images, network.config.image_size, *MEAN_STD[network.config.channels])


def _show(path: Path, network: DVAE, images: Tensor) -> None:
    """Draw images in a row, and below each what its words say; grey ones, and the first three channels of others."""
    with torch.no_grad():
        rows = torch.stack([pixels(images), redrawn(network, network.words(images))])
    shown = rows[:, :, :3] if rows.shape[2] >= 3 else rows[:, :, :1].expand(-1, -1, 3, -1, -1)
    picture = shown.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    zoom = max(1, 64 // network.config.image_size)
    image = Image.fromarray((255 * picture).round().byte().cpu().numpy())
    image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST).save(path)
