"""Export: a checkpoint as files that other programs load."""

from schemas.artifacts import Artifact
from schemas.job import Job
from ssl_tasks.tracking import Tracker


def export(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Not built yet."""
    raise NotImplementedError
