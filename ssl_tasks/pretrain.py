"""Pretrain: one encoder trained by one method on the kept train images of a Dataset."""

from collections.abc import Callable
from contextlib import nullcontext

import torch

from schemas.artifacts import Artifact, Tokenizer, read
from schemas.job import Job
from schemas.methods import BEiT, Method
from schemas.stages import Pretrain
from ssl_tasks import distributed, methods
from ssl_tasks.checkpoints import load_tokenizer, load_training_state
from ssl_tasks.continued import hand_over
from ssl_tasks.data.loader import seed_of
from ssl_tasks.learner import Learner
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.stage import Training, checkpoint, start_from
from ssl_tasks.tracking import Tracker
from ssl_tasks.train import fit
from ssl_tasks.watching import Watching


def pretrain(job: Job, tracker: Tracker, watch: Callable[[Learner], None] | None = None) -> dict[str, Artifact]:
    """Train the encoder of a Pretrain stage and seal it as a Checkpoint.

    Args:
        watch: called with the learner before its first step.

    Raises:
        UserError: where there is too little to train on, given weights do not fit, the loss is not finite, or the disk is full.
        Collapse: where the monitors find that the representation has collapsed.
    """
    stage = job.stage
    assert isinstance(stage, Pretrain)
    torch.manual_seed(seed_of(stage.seed, "weights"))
    encoder = TimmEncoder(stage.encoder)
    if stage.init_from:
        tracker.note(start_from(encoder, stage.init_from, job))
    training = Training(job, stage, stage.encoder, {"parameters": parameters(encoder)}, tracker)
    method = methods.build(stage.method, encoder, images=len(training.images), tokenizer=_tokenizer(stage.method, job))

    watching = Watching(job, training.look, tracker) if stage.watch and not watch else None

    def begin(learner: Learner) -> None:
        if stage.continues:
            kept = load_training_state(checkpoint(job, stage.continues))
            tracker.note(hand_over(kept, learner, stage.continues))
        if watch:
            watch(learner)
        if watching:
            watching.begin(learner)

    with training.failures_kept(), watching or nullcontext():
        fitting = {**training.fitting(tracker), "look": watching or training.look}
        learner = fit(method, training.images, stage.train, begin=begin, **fitting)
    sealed = training.seal(learner, stage.method.exports, watched=watching.found if watching else ())
    distributed.stop()
    return sealed


def _tokenizer(method: Method, job: Job) -> DVAE | None:
    """The trained network whose words a method learns to tell; None for one that learns from none."""
    if not isinstance(method, BEiT):
        return None
    artifact = read(job.folder(job.inputs[method.tokenizer]))
    assert isinstance(artifact, Tokenizer)
    return load_tokenizer(artifact)
