"""Finetune: an encoder becomes a classifier."""

from schemas.artifacts import Artifact
from schemas.job import Job
from ssl_tasks.tracking import Tracker


def finetune(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Not built yet."""
    raise NotImplementedError
