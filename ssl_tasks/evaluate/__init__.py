"""Evaluate: judge models by protocols, beside baselines, and write one report."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from schemas.artifacts import Artifact, Checkpoint
from schemas.job import Job
from schemas.protocols import ProtocolSpec
from schemas.protocols.costs import Cost
from schemas.stages import Evaluate
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.data import manifest
from ssl_tasks.evaluate import leaks, protocols, results, timing
from ssl_tasks.evaluate.findings import Number, Plate, Skipped
from ssl_tasks.evaluate.lineage import chain, epochs
from ssl_tasks.evaluate.report.showcase import Showcase
from ssl_tasks.evaluate.results import Role, Row
from ssl_tasks.evaluate.split import Split
from ssl_tasks.evaluate.students import flat, students
from ssl_tasks.evaluate.subject import Bench, Subject, untrained
from ssl_tasks.evaluate.world import World
from ssl_tasks.memory import ran_out
from ssl_tasks.tracking import Tracker

ITEMS = "items.npz"
"""Of each row that is a mean over items the score of each, by `MODEL/MEASURE`; see `findings.Number`."""


def evaluate(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Run an Evaluate stage: every model and baseline under every protocol that can judge it.

    What a protocol cannot judge is left out with a line that says why; the others go on.

    Raises:
        schemas.errors.UserError: where no protocol is left, or an input is damaged.
    """
    stage = job.stage
    assert isinstance(stage, Evaluate)
    world = World.of(job, stage, "cuda" if torch.cuda.is_available() else "cpu")
    models = _models(world, stage)
    classifiers = sum(bool(model.classes) for model in models.values())
    protocols.check(stage.protocols, world.parts, classifiers, job.name, stage.dataset)
    roles: dict[str, Role] = {**results.roles(stage, models), **_baselines(stage, models)}
    bench = Bench(world, models, results.teachers(stage, models))
    showcase = Showcase(world.parts, stage.seed)
    rows: list[Row] = []
    plates: list[Plate] = []
    skipped: dict[str, dict[str, str]] = {}
    done, steps = 0, len(roles) * (1 + len(stage.protocols))
    for name, role in roles.items():
        subject = bench.subject(name, role)
        done += 1
        tracker.progress(done, steps, {})
        if subject.is_model and not subject.unfit:
            showcase.add(name, subject.features)
        for protocol, called in zip(stage.protocols, results.names(stage.protocols), strict=True):
            done += 1
            try:
                numbers, pictures = _judged(protocol, subject)
            except Skipped as reason:
                numbers, pictures = [], []
                if subject.is_model:
                    skipped.setdefault(called, {})[name] = str(reason)
            told = (subject.parameters, subject.dim, world.parts.id)
            new = [Row(name, role, called, protocol.version, n.metric, n.values, n.n, *told, n.items) for n in numbers]
            rows += new
            plates += pictures
            if new:
                tracker.metrics({f"{name}/{row.measure}": row.value for row in new}, done)
            tracker.progress(done, steps, {})
        subject.release()
    deltas = results.deltas(rows, stage.compare)
    family = students(rows, stage.compare, untrained(models))
    evaluated = manifest.column(world.table, "sha256")[world.parts.queries]
    leaking, labels = leaks.found(job, models, evaluated), leaks.among_labels(world.dataset, evaluated if world.parts.labelled else evaluated[:0])
    found = {
        "rows": [row.as_json() for row in rows],
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

    write(folder, Story(job, stage, roles, rows, family, found, models, chain(job), leaking, plates), showcase)
    return {"": seal(job, folder, metrics=results.flat(rows, deltas) | flat(family))}


def budget(model: Checkpoint) -> dict[str, float]:
    """What a model's training took, as far as its artifact states it: epochs, images seen, seconds."""
    planned = epochs(model.config)
    found = {} if planned is None else {"epochs": planned}
    return found | {name: value for name, value in model.metrics.items() if name in ("images_seen", "seconds")}


def _judged(protocol: ProtocolSpec, subject: Subject) -> tuple[list[Number], list[Plate]]:
    """As `protocols.apply`; what takes more memory than there is is left out too."""
    try:
        return protocols.apply(protocol, subject)
    except Exception as error:
        if not ran_out(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise Skipped(f"takes more memory than there is under {protocol.kind}") from error


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
