"""Evaluate: judge models by protocols, beside baselines, and write one report."""

import json
from collections.abc import Mapping

from schemas.artifacts import Artifact, Checkpoint, Dataset, read
from schemas.evaluations import OF_CLASSIFIERS, Calibration, Cost
from schemas.job import Job
from schemas.stages import Evaluate
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.data import manifest
from ssl_tasks.evaluate import cost, leaks, results
from ssl_tasks.evaluate.bench import Bench, untrained
from ssl_tasks.evaluate.lineage import chain, epochs
from ssl_tasks.evaluate.protocols import Skipped, check_classifiers, score
from ssl_tasks.evaluate.results import Role, Row
from ssl_tasks.evaluate.showcase import Showcase
from ssl_tasks.evaluate.split import check, split
from ssl_tasks.evaluate.students import flat, students
from ssl_tasks.tracking import Tracker


def evaluate(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Run an Evaluate stage: every model and baseline under every protocol that can judge it.

    Raises:
        schemas.errors.UserError: where a protocol cannot be run on the data set or any model, or an input is damaged.
    """
    stage = job.stage
    assert isinstance(stage, Evaluate)
    dataset = read(job.folder(job.inputs[stage.dataset]))
    assert isinstance(dataset, Dataset)
    parts = split(manifest.read(dataset), stage.seed, val=any(isinstance(p, Calibration) for p in stage.protocols))
    check(parts, stage.protocols, job.name, stage.dataset)
    models = _models(job, stage)
    check_classifiers(stage.protocols, sum(bool(model.classes) for model in models.values()), job.name)
    roles: dict[str, Role] = {**results.roles(stage, models), **_baselines(stage, models)}
    bench = Bench(job, stage, parts, models, results.teachers(stage, models))
    showcase = Showcase(parts, stage.seed)
    rows: list[Row] = []
    skipped: dict[str, dict[str, str]] = {}
    done, steps = 0, len(roles) * (1 + len(stage.protocols))
    for name, role in roles.items():
        seen = bench.seen(name, role)
        done += 1
        tracker.progress(done, steps, {})
        if name in models:
            showcase.add(name, seen.features)
        for protocol, called in zip(stage.protocols, results.names(stage.protocols), strict=True):
            done += 1
            try:
                numbers = score(protocol, seen, parts, stage.seed, bench.device)
            except Skipped as reason:
                numbers = []
                if name in models:
                    skipped.setdefault(called, {})[name] = str(reason)
            new = [Row(name, role, called, protocol.version, *number, seen.parameters, seen.features.shape[1], parts.id) for number in numbers]
            rows += new
            if new:
                tracker.metrics({f"{name}/{row.measure}": row.value for row in new}, done)
            tracker.progress(done, steps, {})
    deltas = results.deltas(rows, stage.compare)
    family = students(rows, stage.compare, untrained(models))
    evaluated = manifest.column(parts.table, "sha256")[parts.queries]
    leaking, labels = leaks.found(job, models, evaluated), leaks.among_labels(dataset, evaluated if parts.labelled else evaluated[:0])
    found = {
        "rows": [row.as_json() for row in rows],
        "deltas": deltas,
        "students": family,
        "skipped": skipped,
        "split": {
            "id": parts.id, "bank": len(parts.bank), "train": len(parts.train), "queries": len(parts.queries), "classes": len(parts.classes),
            "held": len(parts.held), "held_out": parts.held_out,
        },
        "protocols": {name: p.model_dump() for name, p in zip(results.names(stage.protocols), stage.protocols, strict=True)},
        "data_version": job.data_version,
        "seed": stage.seed,
        "machine": job.environment,
        "timed_on": cost.devices() if any(isinstance(p, Cost) for p in stage.protocols) else {},
        "budget": {name: budget(model) for name, model in models.items()},
        "leaks": leaks.as_json(leaking),
        "label_leaks": labels,
    }  # fmt: skip
    folder = draft(job)
    (folder / "results.json").write_text(json.dumps(found, indent=1, sort_keys=True))
    for line in [*leaks.warnings(leaking), *leaks.label_warnings(stage.dataset, labels), *results.skips(skipped)]:
        tracker.note(line)
    tracker.note("writing the report")
    from ssl_tasks.evaluate.report import write  # matplotlib takes a second: errors come before it
    from ssl_tasks.evaluate.story import Story

    write(folder, Story(job, stage, roles, rows, family, found, models, chain(job), leaking), showcase)
    return {"": seal(job, folder, metrics=results.flat(rows, deltas) | flat(family))}


def budget(model: Checkpoint) -> dict[str, float]:
    """What a model's training took, as far as its artifact states it: epochs, images seen, seconds."""
    planned = epochs(model.config)
    found = {} if planned is None else {"epochs": planned}
    return found | {name: value for name, value in model.metrics.items() if name in ("images_seen", "seconds")}


def _models(job: Job, stage: Evaluate) -> dict[str, Checkpoint]:
    wanted = [*stage.models, *(name for c in stage.compare for name in (c.teacher, c.student, c.alone) if name)]
    found: dict[str, Checkpoint] = {}
    for name in dict.fromkeys(wanted):
        model = read(job.folder(job.inputs[name]))
        assert isinstance(model, Checkpoint)
        found[name] = model
    return found


def _baselines(stage: Evaluate, models: Mapping[str, Checkpoint]) -> dict[str, Role]:
    """Names of the baselines; none where no protocol judges features."""
    if all(isinstance(protocol, (*OF_CLASSIFIERS, Cost)) for protocol in stage.protocols):
        return {}
    named: dict[str, Role] = {"pixels": "pixels"} if "pixels" in stage.baselines else {}
    return named | (dict.fromkeys(untrained(models).values(), "random") if "random" in stage.baselines else {})
