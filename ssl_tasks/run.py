"""One stage, run here and now: usable from any Python, with no orchestrator."""

from typing import assert_never

from schemas.artifacts import Artifact
from schemas.job import Job
from schemas.stages import Curate, Distill, Evaluate, Ingest, Pretrain
from ssl_tasks.tracking import Tracker


def run(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Make what is asked for in `job.outputs` and seal it.

    Returns:
        Each output's artifact.

    Raises:
        schemas.errors.UserError: what a retry cannot mend. Any other error may be a passing one.
    """
    match job.stage:
        case Ingest():
            from ssl_tasks.ingest import ingest

            return ingest(job, tracker)
        case Curate():
            from ssl_tasks.curate import curate

            return curate(job, tracker)
        case Pretrain():
            from ssl_tasks.pretrain import pretrain

            return pretrain(job, tracker)
        case Distill():
            from ssl_tasks.distill import distill

            return distill(job, tracker)
        case Evaluate():
            from ssl_tasks.evaluate import evaluate

            return evaluate(job, tracker)
        case _:
            assert_never(job.stage)
