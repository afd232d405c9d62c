"""A model on another data set than the evaluation's own."""

from schemas.errors import UserError
from ssl_tasks.evaluate.subject import Subject


def elsewhere(kind: str, dataset: str, subject: Subject) -> Subject:
    """The same model, whose world is another data set that a protocol names; its features are kept on disk as those here are.

    Raises:
        UserError: where it is no other one.
    """
    world = subject.world
    if world.job.inputs[dataset] == world.job.inputs[world.stage.dataset]:
        raise UserError(f"{kind}.dataset: '{dataset}' is the data set that is evaluated; name another one")
    return Subject(subject.name, subject.role, subject.artifact, subject.config, world.other(dataset))
