"""Where a number comes from: the chain of artifacts behind a report."""

from collections.abc import Mapping
from typing import Any

from schemas.artifacts import Checkpoint, read
from schemas.job import Job
from ssl_tasks.lineage import Link, behind, encoder, summary

__all__ = ["Link", "chain", "encoder", "epochs", "last_or_best", "method", "summary"]


def chain(job: Job) -> list[Link]:
    """The report, then everything it was made from, each link before those that it takes from."""
    links = behind(job.inputs, job.folder)
    stages = {link.key: link.name for link in links}
    takes = [stages[key] for key in dict.fromkeys(job.inputs.values())]
    said = summary(job.stage.model_dump(mode="json"))
    return [Link(job.name, "evaluate", job.key, takes, said, job.environment.get("git_commit", ""), job.data_version), *links]


def method(config: Mapping[str, Any]) -> str:
    """What a checkpoint was trained by, of the config that its artifact states: `simclr`, `feature + rkd`, `alone` of a baseline, or the kind of its stage."""
    if config.get("baseline"):
        return "alone"
    own = _trained(config).get("method") or []
    return " + ".join(each["kind"] for each in (own if isinstance(own, list) else [own])) or str(config["kind"])


def epochs(config: Mapping[str, Any]) -> float | None:
    """How many epochs it was to be trained; None where its stage does not train."""
    train = _trained(config).get("train")
    return float(train["epochs"]) if train else None


def last_or_best(job: Job, model: Checkpoint) -> str:
    """Which weights of its training a model has, told with every number so that last and best are never mixed."""
    if model.kind == "whiten" and isinstance(whitened := read(job.folder(model.parents[model.config["checkpoint"]])), Checkpoint):
        return last_or_best(job, whitened)
    steps = {name: round(value) for name, value in model.metrics.items() if name in ("kept_from_step", "fell_back_to_step", "ended_early_at_step")}
    if "kept_from_step" in steps:
        return f"best on held-out images, of step {steps['kept_from_step']}"
    if "fell_back_to_step" in steps:
        return f"fell back to step {steps['fell_back_to_step']}"
    return f"last, ended early at step {steps['ended_early_at_step']}" if "ended_early_at_step" in steps else "last"


def _trained(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a config states method and budget: with the student that the checkpoint is of, or with the stage."""
    students: list[Mapping[str, Any]] = list(config.get("students", {}).values())
    return students[0] if students else config
