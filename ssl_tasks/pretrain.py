"""Pretrain: one encoder trained by one method on the kept train images of a Dataset."""

from collections.abc import Callable

import torch

from schemas.artifacts import Artifact, Checkpoint, read, sha256
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Pretrain
from ssl_tasks import checkpoints, distributed, methods
from ssl_tasks.continued import hand_over
from ssl_tasks.data.loader import seed_of
from ssl_tasks.learner import Learner
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.stage import Training
from ssl_tasks.tracking import Tracker
from ssl_tasks.train import fit
from ssl_tasks.weights import State, initialise, read_weights


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
        tracker.note(_start(encoder, stage, job))
    method = methods.build(stage.method, encoder)
    training = Training(job, stage, stage.encoder, {"parameters": parameters(encoder)}, tracker)

    def begin(learner: Learner) -> None:
        if stage.continues:
            kept = checkpoints.load_training_state(_checkpoint(job, stage.continues))
            tracker.note(hand_over(kept, learner, stage.continues))
        if watch:
            watch(learner)

    with training.failures_kept():
        learner = fit(method, training.images, stage.train, begin=begin, **training.fitting(tracker))
    sealed = training.seal(learner, stage.method.exports)
    distributed.stop()
    return sealed


def _start(encoder: TimmEncoder, stage: Pretrain, job: Job) -> str:
    """Give the encoder the weights that `init_from` names; what was done, in a line."""
    assert stage.init_from
    if stage.init_from.stage:
        source = checkpoints.load_encoder(_checkpoint(job, stage.init_from.stage))
        note = initialise(encoder, source.backbone.state_dict(), f"'{stage.init_from.stage}'")
        if not _same(source.neck.state_dict(), encoder.neck.state_dict()):
            return f"{note}; without its neck" if len(source.neck) else note
        encoder.neck.load_state_dict(source.neck.state_dict())
        return note
    path = job.workspace / str(stage.init_from.file)
    weights = read_weights(path)
    if job.stamp and sha256(path) != job.stamp:
        raise UserError(f"init_from.file: {path} has changed since the run was planned: run again")
    return initialise(encoder, weights, str(stage.init_from.file))


def _same(state: State, other: State) -> bool:
    """Whether two states have the same names and shapes."""
    return {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in other.items()}


def _checkpoint(job: Job, reference: str) -> Checkpoint:
    artifact = read(job.folder(job.inputs[reference]))
    assert isinstance(artifact, Checkpoint)
    return artifact
