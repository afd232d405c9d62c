"""The Evaluate stage: every model and baseline under every protocol that can judge it, and one report."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from schemas.artifacts import Artifact, Checkpoint
from schemas.errors import UserError
from schemas.job import Job
from schemas.protocols.costs import Cost
from schemas.stages import Evaluate
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.data import manifest
from ssl_tasks.evaluate import expecting, leaks, protocols, results, summaries, timing
from ssl_tasks.evaluate.alike import Alike
from ssl_tasks.evaluate.judging import judged, repeated
from ssl_tasks.evaluate.lineage import chain, epochs, last_or_best
from ssl_tasks.evaluate.results import Role
from ssl_tasks.evaluate.split import Split
from ssl_tasks.evaluate.students import flat, students
from ssl_tasks.evaluate.subject import Bench, untrained
from ssl_tasks.evaluate.world import World
from ssl_tasks.tracking import Tracker

ITEMS = "items.npz"
"""Of each row that is a mean over items the score of each, by `MODEL/MEASURE`; see `findings.Number`."""
REPORT = "report"
"""Folder, among what is kept of a stage that is not done, of the report of one that did not reach what is expected."""


def evaluate(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Run an Evaluate stage: every model and baseline under every protocol that can judge it.

    What a protocol cannot judge is left out with a line that says why; the others go on.

    Raises:
        UserError: where no protocol is left, an input is damaged, or a number is not what `expect` says; then the report is kept in the work folder.
    """
    stage = job.stage
    assert isinstance(stage, Evaluate)
    world = World.of(job, stage, "cuda" if torch.cuda.is_available() else "cpu")
    models = _models(world, stage)
    classifiers = sum(bool(model.classes) for model in models.values())
    protocols.check(stage.protocols, world.parts, classifiers, job.name, stage.dataset)
    roles: dict[str, Role] = {**results.roles(stage, models), **_baselines(stage, models)}
    expecting.check(stage, job.name)
    judgement = judged(Bench(world, models, results.teachers(stage, models)), roles, tracker)
    rows, skipped = judgement.rows, judgement.skipped
    deltas = results.deltas(rows, stage.compare)
    family = students(rows, stage.compare, untrained(models))
    seeds = summaries.summaries(rows)
    expected = expecting.held(stage, rows, roles, skipped)
    evaluated = manifest.column(world.table, "sha256")[world.parts.queries]
    near = Alike(job.workspace, job.cache, world.table.take(pa.array(world.parts.queries)), stage.seed, tracker.note) if stage.leakage == "near" else None
    leaking = leaks.found(job, models, evaluated, near)
    labels = leaks.among_labels(world.dataset, evaluated if world.parts.labelled else evaluated[:0], near)
    found = {
        "rows": [{**row.as_json(), "leaking": row.model in leaking and leaking[row.model].train_images > 0} for row in rows],
        "summaries": seeds,
        "differences": summaries.differences(rows),
        "tests": summaries.TESTS,
        "expectations": expected,
        "checkpoints": {name: last_or_best(job, model) for name, model in models.items()},
        "repeats": _repeats(stage),
        "deltas": deltas,
        "students": family,
        "skipped": skipped,
        "split": _split(world.parts),
        "protocols": {name: p.model_dump(mode="json") for name, p in zip(results.names(stage.protocols), stage.protocols, strict=True)},
        "data_version": job.data_version,
        "seed": stage.seed,
        "machine": job.environment,
        "timed_on": timing.devices() if any(isinstance(p, Cost) for p in stage.protocols) else {},
        "budget": {name: budget(model) for name, model in models.items()},
        "preprocessing": {name: _preprocessing(model) for name, model in models.items()},
        "notes": world.parts.notes(stage.dataset),
        "leaks": leaks.as_json(leaking),
        "label_leaks": labels,
    }
    folder = draft(job)
    (folder / "results.json").write_text(json.dumps(found, indent=1, sort_keys=True))
    np.savez_compressed(folder / ITEMS, **{f"{row.model}/{row.measure}": row.items for row in rows if row.items is not None})  # type: ignore[arg-type]  # its stub knows no mapping
    for line in [*world.parts.notes(stage.dataset), *leaks.warnings(leaking), *leaks.label_warnings(stage.dataset, labels), *results.skips(skipped)]:
        tracker.note(line)
    tracker.note("writing the report")
    from ssl_tasks.evaluate.report.page import write  # matplotlib takes a second: errors come before it
    from ssl_tasks.evaluate.report.story import Story

    write(folder, Story(job, stage, roles, rows, family, found, models, chain(job), leaking, judgement.plates), judgement.showcase)
    if broken := expecting.broken(expected):
        raise UserError("\n".join([*broken, f"the report is kept: {_kept(job, folder) / 'report.html'}"]))
    return {"": seal(job, folder, metrics=results.flat(rows, deltas) | flat(family) | summaries.flat(seeds))}


def budget(model: Checkpoint) -> dict[str, float]:
    """What a model's training took, as far as its artifact states it: epochs, images seen, seconds, joules."""
    planned = epochs(model.config)
    found = {} if planned is None else {"epochs": planned}
    return found | {name: value for name, value in model.metrics.items() if name in ("images_seen", "seconds", "joules")}


def _kept(job: Job, folder: Path) -> Path:
    """Put the report of an evaluation that did not reach what is expected where it is no artifact, so that no run takes it for done."""
    place = job.work / REPORT
    shutil.rmtree(place, ignore_errors=True)
    return folder.rename(place)


def _repeats(stage: Evaluate) -> dict[str, Any]:
    """How often, and which protocols were judged under as many seeds."""
    return {
        "count": stage.repeats,
        "seeds": list(range(stage.seed, stage.seed + stage.repeats)),
        "protocols": [name for name, p in zip(results.names(stage.protocols), stage.protocols, strict=True) if repeated(p, stage.repeats)],
    }


def _models(world: World, stage: Evaluate) -> dict[str, Checkpoint]:
    wanted = [*stage.models, *(name for c in stage.compare for name in (c.teacher, c.student, c.alone) if name)]
    found: dict[str, Checkpoint] = {}
    for name in dict.fromkeys(wanted):
        model = world.artifact(name)
        assert isinstance(model, Checkpoint)
        found[name] = model
    return found


def _baselines(stage: Evaluate, models: Mapping[str, Checkpoint]) -> dict[str, Role]:
    """Names of the baselines; none where no protocol judges features."""
    if all("classifier" in protocol.needs or isinstance(protocol, Cost) for protocol in stage.protocols):
        return {}
    named: dict[str, Role] = {"pixels": "pixels"} if "pixels" in stage.baselines else {}
    return named | (dict.fromkeys(untrained(models).values(), "random") if "random" in stage.baselines else {})


def _split(parts: Split) -> dict[str, Any]:
    return {
        "id": parts.id, "bank": len(parts.bank), "train": len(parts.train), "queries": len(parts.queries), "classes": len(parts.classes),
        "held": len(parts.held), "held_out": parts.held_out,
    }  # fmt: skip


def _preprocessing(model: Checkpoint) -> dict[str, Any]:
    size = model.encoder.image_size
    return {"resize": round(size * 256 / 224), "crop": size, "interpolation": "bilinear, antialiased", "mean": model.mean, "std": model.std}
