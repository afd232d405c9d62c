"""Pretrain: one encoder trained by one method on the kept train images of a Dataset."""

import torch

from schemas.artifacts import Artifact
from schemas.job import Job
from schemas.stages import Pretrain
from ssl_tasks import distributed, methods
from ssl_tasks.data.loader import seed_of
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.stage import Training
from ssl_tasks.tracking import Tracker
from ssl_tasks.train import fit


def pretrain(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Train the encoder of a Pretrain stage and seal it as a Checkpoint.

    Raises:
        UserError: where there is too little to train on, the loss is not finite, or the disk is full.
        Collapse: where the monitors find that the representation has collapsed.
    """
    stage = job.stage
    assert isinstance(stage, Pretrain)
    torch.manual_seed(seed_of(stage.seed, "weights"))
    encoder = TimmEncoder(stage.encoder)
    method = methods.build(stage.method, encoder)
    training = Training(job, stage, stage.encoder, {"parameters": parameters(encoder)}, tracker)
    learner = fit(method, training.images, stage.train, **training.fitting(tracker))
    sealed = training.seal(learner, stage.method.exports)
    distributed.stop()
    return sealed
