"""One stage, run here and now: usable from any Python, with no orchestrator."""

from typing import TYPE_CHECKING, assert_never

from schemas.artifacts import Artifact
from schemas.job import Job
from schemas.stages import Curate, Distill, Evaluate, Export, Finetune, Ingest, Pretrain, Tokenizer, Whiten
from ssl_tasks.tracking import Tracker

if TYPE_CHECKING:
    from ssl_tasks.curate.shards import Mapper


def run(job: Job, tracker: Tracker, mapper: "Mapper | None" = None) -> dict[str, Artifact]:
    """Make what is asked for in `job.outputs` and seal it.

    Args:
        mapper: runs the shards of a curation; threads of this process where not given.

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
            from ssl_tasks.curate.shards import threads

            return curate(job, tracker, mapper or threads)
        case Tokenizer():
            from ssl_tasks.tokenizer import train_tokenizer

            return train_tokenizer(job, tracker)
        case Pretrain():
            from ssl_tasks.pretrain import pretrain

            return pretrain(job, tracker)
        case Distill():
            from ssl_tasks.distill import distill

            return distill(job, tracker)
        case Finetune():
            from ssl_tasks.finetune import finetune

            return finetune(job, tracker)
        case Export():
            from ssl_tasks.export import export

            return export(job, tracker)
        case Whiten():
            from ssl_tasks.whiten import whiten

            return whiten(job, tracker)
        case Evaluate():
            from ssl_tasks.evaluate.stage import evaluate

            return evaluate(job, tracker)
        case _:
            assert_never(job.stage)
