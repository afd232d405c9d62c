"""A small finished pipeline, made by the real stages except for training: three classes of 12x12 images, five encoders."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter

from schemas.artifacts import Artifact
from schemas.encoders import Encoder
from schemas.job import Job
from schemas.stages import Stage
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.run import run
from ssl_tasks.tracking import JSONLines

SHOTS = {"kind": "few_shot", "shots": 2, "draws": 3}
PROTOCOLS: list[Any] = [{"kind": "knn", "k": 5}, SHOTS, {"kind": "linear", "strengths": 3}, "rank"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA_VERSION = "d41d8cd98f00b204e9800998ecf8427e"
TRAIN = {"epochs": 2.0, "batch_size": 8}
CLASSES = ("arrow", "bar", "cross")


def job(workspace: Path, name: str, stage: dict[str, Any], inputs: dict[str, str], outputs: tuple[str, ...] = ("",)) -> Job:
    """A job whose keys follow from what it is made of."""
    key = hashlib.sha256(json.dumps([name, stage, inputs], sort_keys=True).encode()).hexdigest()[:24]
    return Job(
        name=name, pipeline="shapes", stage=TypeAdapter[Any](Stage).validate_python(stage), key=key, inputs=inputs, workspace=workspace,
        outputs={o: key + o for o in outputs}, data_version=DATA_VERSION, environment={"git_commit": COMMIT, "cpus": "2"},
    )  # fmt: skip


def done(job: Job) -> dict[str, Artifact]:
    """Run a job for real."""
    tracker = JSONLines(job.work / "events.jsonl")
    try:
        return run(job, tracker)
    finally:
        tracker.close()


def draw(root: Path) -> None:
    """12 train and 4 test images a class, noisy, under SPLIT/CLASS/; the last train image of each class repeats the first."""
    generator = np.random.default_rng(0)
    arrow, bar = np.tri(12), np.repeat([[0, 1, 0]], 4, 1) * np.ones((12, 1))
    for label, shape in zip(CLASSES, (arrow, bar, np.eye(12)[::-1] + np.eye(12)), strict=True):
        for split, count in (("train", 12), ("test", 4)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                noisy = np.clip(shape * 180 + generator.normal(30, 25, (12, 12)), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / f"{i}.png")
        (root / "train" / label / "11.png").write_bytes((root / "train" / label / "0.png").read_bytes())


def datasets(workspace: Path, labels: bool = True) -> tuple[Artifact, Artifact]:
    """The listed images, and those that remain after the exact duplicates went."""
    if not (workspace / "images").exists():
        draw(workspace / "images")
    source = {"kind": "folder", "path": "images", "labels": labels, "splits": True}
    raw = done(job(workspace, "raw", {"kind": "ingest", "source": source}, {}))[""]
    stage = {"kind": "curate", "dataset": "raw", "steps": ["integrity", "exact_duplicates"]}
    return raw, done(job(workspace, "clean", stage, {"raw": raw.key}))[""]


def encoder(width: int) -> dict[str, Any]:
    """A ResNet of a few thousand parameters."""
    return {"name": "resnet10t", "image_size": 12, "channels": 1, "stem": "cifar", "options": {"channels": [width] * 4, "stem_width": 8}}


def checkpoint(job: Job, output: str, config: dict[str, Any], seed: int) -> Artifact:
    """A Checkpoint of a network that nobody trained, with a training curve."""
    folder = draft(job, output)
    torch.manual_seed(seed)
    model = TimmEncoder(Encoder(**config))
    save_encoder(folder, model)
    points = [{"step": s, "train/loss": 1 / s, **({"monitor/effective_rank": 2.0 + s, "monitor/knn": 0.5} if s % 2 else {})} for s in range(1, 7)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    fields = {"encoder": model.config.model_dump(mode="json"), "mean": [0.5], "std": [0.5], "dim": model.dim, "exported": "encoder"}
    return seal(job, folder, output, **fields, metrics={"images_seen": 48.0, "seconds": 3.5})


def models(workspace: Path, clean: Artifact) -> dict[str, str]:
    """A teacher, two students and each student alone, by reference: their keys."""
    made: dict[str, str] = {"clean": clean.key}
    for name, width, seed in (("teacher", 16, 0), ("small_alone", 8, 1), ("vit_alone", 4, 2)):
        stage = {"kind": "pretrain", "dataset": "clean", "method": "simclr", "encoder": encoder(width), "train": TRAIN}
        made[name] = checkpoint(job(workspace, name, stage, {"clean": clean.key}), "", encoder(width), seed).key
    students = {"small": encoder(8), "vit": encoder(4)}
    stage = {"kind": "distill", "dataset": "clean", "teacher": "teacher", "method": "feature", "students": students, "train": TRAIN}
    distill = job(workspace, "students", stage, {"clean": clean.key, "teacher": made["teacher"]}, ("small", "vit"))
    return made | {f"students.{name}": checkpoint(distill, name, config, 3).key for name, config in students.items()}


def evaluation(workspace: Path, inputs: dict[str, str], **fields: Any) -> Job:
    """The job that evaluates all of them."""
    compared = [{"student": f"students.{s}", "teacher": "teacher", "alone": f"{s}_alone"} for s in ("small", "vit")]
    stage = {"kind": "evaluate", "dataset": "clean", "models": ["teacher", "students.small", "students.vit"], "protocols": PROTOCOLS}
    return job(workspace, "report", {**stage, "compare": compared, "seed": 7, **fields}, inputs)
