"""Evaluate: judge frozen features by protocols, beside baselines, and write one report."""

import json
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.artifacts import Artifact, Checkpoint, Dataset, read
from schemas.evaluations import KNN, FewShot, Linear, Protocol, Rank
from schemas.job import Job
from schemas.stages import Evaluate
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.data import manifest
from ssl_tasks.data.files import Files, open_images
from ssl_tasks.data.store import side_for
from ssl_tasks.evaluate import baselines, leaks, results
from ssl_tasks.evaluate.few_shot import few_shot
from ssl_tasks.evaluate.knn import knn
from ssl_tasks.evaluate.lineage import chain
from ssl_tasks.evaluate.linear import linear
from ssl_tasks.evaluate.rank import rank
from ssl_tasks.evaluate.results import Role, Row
from ssl_tasks.evaluate.showcase import Showcase
from ssl_tasks.evaluate.split import Split, check, split
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.nn.features import features
from ssl_tasks.tracking import Tracker


def evaluate(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Run an Evaluate stage: every model and baseline under every protocol.

    Raises:
        schemas.errors.UserError: where a protocol cannot be run on the data set, or an input is damaged.
    """
    stage = job.stage
    assert isinstance(stage, Evaluate)
    dataset = read(job.folder(job.inputs[stage.dataset]))
    assert isinstance(dataset, Dataset)
    parts = split(manifest.read(dataset))
    check(parts, stage.protocols, job.name, stage.dataset)
    models = _models(job, stage)
    roles: dict[str, Role] = {**results.roles(stage, models), **_baselines(stage, models)}
    bench = _Bench(job, stage, parts, models)
    showcase = Showcase(parts, stage.seed)
    rows: list[Row] = []
    done, steps = 0, len(roles) * (1 + len(stage.protocols))
    for name, role in roles.items():
        x, size = bench.features(name, role)
        done += 1
        tracker.progress(done, steps, {})
        if name in models:
            showcase.add(name, x)
        for protocol, called in zip(stage.protocols, results.names(stage.protocols), strict=True):
            values, n, metric = score(protocol, x, parts, stage.seed, bench.device)
            rows.append(Row(name, role, called, protocol.version, metric, values, n, size, x.shape[1], parts.id))
            done += 1
            tracker.metrics({f"{name}/{called}": rows[-1].value}, done)
            tracker.progress(done, steps, {})
    deltas = results.deltas(rows, stage.compare)
    evaluated = manifest.column(parts.table, "sha256")[parts.queries]
    leaking, labels = leaks.found(job, models, evaluated), leaks.among_labels(dataset, evaluated if parts.labelled else evaluated[:0])
    found = {
        "rows": [row.as_json() for row in rows],
        "deltas": deltas,
        "split": {
            "id": parts.id, "bank": len(parts.bank), "train": len(parts.train), "queries": len(parts.queries), "classes": len(parts.classes),
        },
        "protocols": {name: p.model_dump() for name, p in zip(results.names(stage.protocols), stage.protocols, strict=True)},
        "data_version": job.data_version,
        "seed": stage.seed,
        "machine": job.environment,
        "budget": {name: budget(model) for name, model in models.items()},
        "leaks": leaks.as_json(leaking),
        "label_leaks": labels,
    }  # fmt: skip
    folder = draft(job)
    (folder / "results.json").write_text(json.dumps(found, indent=1, sort_keys=True))
    for line in [*leaks.warnings(leaking), *leaks.label_warnings(stage.dataset, labels)]:
        tracker.note(line)
    tracker.note("writing the report")
    from ssl_tasks.evaluate.report import write  # matplotlib takes a second: errors come before it
    from ssl_tasks.evaluate.story import Story

    write(folder, Story(job, stage, rows, deltas, found, models, chain(job), leaking), showcase)
    return {"": seal(job, folder, metrics=results.flat(rows, deltas))}


def score(protocol: Protocol, x: NDArray[np.float32], parts: Split, seed: int, device: str) -> tuple[list[float], int, results.Metric]:
    """One protocol on the features of every row of `parts.table`: its values, how many images they rest on, and what they are."""
    world = (x[parts.bank], parts.labels[parts.bank], x[parts.queries], parts.labels[parts.queries])
    match protocol:
        case KNN():
            return [knn(*world, protocol.k, protocol.temperature, device)], len(parts.queries), "accuracy"
        case FewShot():
            return few_shot(*world, protocol.shots, protocol.draws, seed, device), len(parts.queries), "accuracy"
        case Linear():
            return [linear(*world, protocol.strengths, seed)], len(parts.queries), "accuracy"
        case Rank():
            return [rank(x[parts.train], protocol.samples, seed)], min(len(parts.train), protocol.samples), "effective_rank"


def budget(model: Checkpoint) -> dict[str, float]:
    """What a model's training took, as far as its artifact states it: epochs, images seen, seconds."""
    found = {"epochs": float(model.config["train"]["epochs"])} if "train" in model.config else {}
    return found | {name: value for name, value in model.metrics.items() if name in ("images_seen", "seconds")}


def _models(job: Job, stage: Evaluate) -> dict[str, Checkpoint]:
    wanted = [*stage.models, *(name for c in stage.compare for name in (c.teacher, c.student, c.alone))]
    found: dict[str, Checkpoint] = {}
    for name in dict.fromkeys(wanted):
        model = read(job.folder(job.inputs[name]))
        assert isinstance(model, Checkpoint)
        found[name] = model
    return found


def _baselines(stage: Evaluate, models: Mapping[str, Checkpoint]) -> dict[str, Role]:
    """Names of the baselines: one untrained network for each encoder, called by the first model that has it."""
    named: dict[str, Role] = {}
    if "pixels" in stage.baselines:
        named["pixels"] = "pixels"
    if "random" in stage.baselines:
        first: dict[str, str] = {}
        for name, model in models.items():
            first.setdefault(model.encoder.model_dump_json(), name)
        named |= dict.fromkeys((f"random init ({name})" for name in first.values()), "random")
    return named


class _Bench:
    """Extracts the features of one model or baseline at a time."""

    def __init__(self, job: Job, stage: Evaluate, parts: Split, models: Mapping[str, Checkpoint]) -> None:
        self.job, self.stage, self.parts, self.models = job, stage, parts, models
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def features(self, name: str, role: Role) -> tuple[NDArray[np.float32], int]:
        """Features of every row of the split's table, and how many parameters made them."""
        if role == "pixels":
            smallest = min((m.encoder for m in self.models.values()), key=lambda e: e.image_size)
            side = side_for(self.parts.table, smallest.image_size)
            return baselines.pixels(self._images(min(side, baselines.LARGEST), smallest.channels)), 0
        if role == "random":
            model = self.models[name.removeprefix("random init (").removesuffix(")")]
            return self._encode(baselines.untrained(model.encoder, self.stage.seed), model)
        return self._encode(load_encoder(self.models[name], self.device), self.models[name])

    def _encode(self, encoder: TimmEncoder, model: Checkpoint) -> tuple[NDArray[np.float32], int]:
        side = side_for(self.parts.table, model.encoder.image_size)
        images = self._images(side, model.encoder.channels)
        return features(encoder, images, model.mean, model.std, device=self.device), parameters(encoder)

    def _images(self, side: int, channels: int) -> NDArray[np.uint8] | Files:
        return open_images(self.parts.table, self.job.workspace, side, channels, self.job.cache, self.stage.resources.store)
