"""Finetune: a checkpoint, or an encoder with random weights, becomes a classifier of a dataset's labelled train images."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.artifacts import Artifact, Checkpoint, read
from schemas.errors import UserError
from schemas.finetuning import MLPHead, Unfreezing
from schemas.job import Job
from schemas.stages import Finetune
from ssl_tasks import distributed
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.data.loader import seed_of
from ssl_tasks.data.subset import Subset
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.finetune.classification import Classification
from ssl_tasks.finetune.labels import Labelled
from ssl_tasks.finetune.looks import Looks
from ssl_tasks.learner import Learner
from ssl_tasks.nn.classifier import Classifier, classifier_head
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.stage import Training
from ssl_tasks.tracking import Tracker
from ssl_tasks.train import Seat, fit_together


def finetune(job: Job, tracker: Tracker, watch: Callable[[Learner], None] | None = None) -> dict[str, Artifact]:
    """Train a classifier and seal encoder and head as a Checkpoint.

    Args:
        watch: called with the learner before its first step.

    Raises:
        UserError: where there are no labels, the strategy does not fit the encoder, the loss is not finite, or the disk is full.
        Collapse: where the monitors find that the representation has collapsed.
    """
    stage = job.stage
    assert isinstance(stage, Finetune)
    torch.manual_seed(seed_of(stage.seed, "weights"))
    encoder = _encoder(job, stage)
    drawn: list[Labelled] = []

    def choose(labels: Sequence[str | None]) -> NDArray[np.int64]:
        drawn.append(Labelled.of(labels, stage.dataset, stage.labels, stage.seed, isinstance(stage.strategy, Unfreezing)))
        return drawn[0].rows

    training = Training(job, stage, encoder.config, {"parameters": parameters(encoder)}, tracker, choose)
    labelled, images = drawn[0], training.images
    assert isinstance(images, Subset)
    tracker.note(str(labelled))
    hidden = stage.strategy.hidden if isinstance(stage.strategy, MLPHead) else None
    method = Classification(stage, Classifier(encoder, classifier_head(encoder.dim, len(labelled.classes), hidden), labelled.classes))
    looks = Looks(training.look, images.whole, labelled, stage.seed, job, training.device)
    numbers = torch.from_numpy(labelled.numbers[labelled.rows]).to(training.device)

    def targets(_: list[Tensor], seat: Seat) -> Tensor:
        return numbers[torch.from_numpy(seat.rows).to(numbers.device)]

    with training.failures_kept():
        fitting = {**training.fitting(tracker), "look": looks}
        learner = fit_together({"": method}, images, stage.train, targets=targets, begin=watch, **fitting)[""]
    looks.settle(learner, tracker)
    learner.record({"labelled_images": len(labelled.rows)}, tracker)
    learned = learner.method
    assert isinstance(learned, Classification)
    if distributed.is_main():  # other ranks may hold no more than parts of it
        learned.merge()
    exported = "encoder" if stage.strategy.frozen else "finetuned encoder"
    sealed = training.seal(learner, exported, labelled.classes, hidden)
    distributed.stop()
    return sealed


def _encoder(job: Job, stage: Finetune) -> TimmEncoder:
    """The encoder that is trained, with the checkpoint's weights or random ones."""
    if stage.checkpoint is None:
        assert stage.encoder
        return TimmEncoder(stage.encoder)
    artifact = read(job.folder(job.inputs[stage.checkpoint]))
    assert isinstance(artifact, Checkpoint)
    if artifact.encoder.whitening and not stage.strategy.frozen:
        raise UserError(f"checkpoint '{stage.checkpoint}' is whitened, which cannot be trained: take strategy linear or mlp, or the checkpoint before")
    mean, std = MEAN_STD[artifact.encoder.channels]
    if (artifact.mean, artifact.std) != (mean, std):
        told = f"images less mean {artifact.mean} over {artifact.std}"
        raise UserError(f"checkpoint '{stage.checkpoint}' was trained on {told}, and images are prepared here with {mean} and {std}: it cannot go on so")
    return load_encoder(artifact)
