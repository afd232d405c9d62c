"""Export: a checkpoint as files that other programs load, each checked against it, with a model card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.artifacts import Artifact, Checkpoint, Report, read
from schemas.exports import Format
from schemas.job import Job
from schemas.stages import Export
from ssl_tasks import artifacts
from ssl_tasks.export import card
from ssl_tasks.export.card import Background
from ssl_tasks.export.formats import CHECKS, Outcome, make
from ssl_tasks.export.original import Original
from ssl_tasks.lineage import behind
from ssl_tasks.nn.encoder import parameters
from ssl_tasks.tracking import Tracker


def export(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Run an Export stage: write the formats, check them, and seal them with their model card.

    Raises:
        UserError: where a format fails its check or cannot be made, a report says nothing of the checkpoint, or a licence is of nothing that
            it comes from.
    """
    stage = job.stage
    assert isinstance(stage, Export)
    checkpoint = read(job.folder(job.inputs[stage.checkpoint]))
    assert isinstance(checkpoint, Checkpoint)
    reports = [report for name in stage.reports if isinstance(report := read(job.folder(job.inputs[name])), Report)]
    rows = card.measured(reports, checkpoint.key, stage.checkpoint)
    links = behind({stage.checkpoint: checkpoint.key}, job.folder)
    folder = artifacts.draft(job)
    original = Original(checkpoint)
    outcome = hand_out(original, stage.formats, folder, Background(links, rows, stage.licence, stage.licences, stage.registry))
    for line in remarks(outcome):
        tracker.note(line)
    fixed = {name: made.fixed for name, made in outcome.made.items() if made.fixed}
    stated = checkpoint.model_dump(mode="json", include={"encoder", "mean", "std", "dim", "classes"})
    fields: dict[str, Any] = {**stated, "formats": list(outcome.made), "outputs": list(original.outputs), "fixed": fixed, "refused": outcome.refused}
    metrics = {f"{name}/max_absolute": made.worst.absolute for name, made in outcome.made.items()}
    metrics |= {f"{name}/max_relative": made.worst.relative for name, made in outcome.made.items()}
    return {"": artifacts.seal(job, folder, **fields, metrics={**metrics, "parameters": parameters(original)})}


def hand_out(original: Original, formats: Sequence[Format], folder: Path, background: Background) -> Outcome:
    """Write formats, what their checks found and the model card into a folder.

    Raises:
        UserError: see `ssl_tasks.export.formats.make`.
    """
    outcome = make(original, formats, folder)
    (folder / CHECKS).write_text(json.dumps(outcome.as_json(), indent=1))
    (folder / card.FILE).write_text(card.card(original, outcome, background))
    return outcome


def remarks(outcome: Outcome) -> list[str]:
    """What a person should know of formats that were not made, or not for images of every size."""
    found = [f"{name} was not made: {reason}" for name, reason in outcome.refused.items()]
    return found + [f"{name} takes images of the encoder's own size alone: {made.fixed}" for name, made in outcome.made.items() if made.fixed]
