"""Where a number comes from: the chain of artifacts behind a report."""

from schemas.job import Job
from ssl_tasks.lineage import Link, behind, encoder, summary

__all__ = ["Link", "chain", "encoder", "summary"]


def chain(job: Job) -> list[Link]:
    """The report, then everything it was made from, each link before those that it takes from."""
    links = behind(job.inputs, job.folder)
    stages = {link.key: link.name for link in links}
    takes = [stages[key] for key in dict.fromkeys(job.inputs.values())]
    said = summary(job.stage.model_dump(mode="json"))
    return [Link(job.name, "evaluate", job.key, takes, said, job.environment.get("git_commit", ""), job.data_version), *links]
