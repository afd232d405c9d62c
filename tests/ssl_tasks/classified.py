"""A family of small classifiers, sealed as their stages would: a teacher, and two students of it under three seeds, each also alone."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluated import CLASSES, TRAIN, encoder, job
from torch import nn

from schemas.artifacts import Artifact, Dataset
from schemas.encoders import Encoder
from schemas.job import Job
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.data import manifest
from ssl_tasks.data.files import open_images
from ssl_tasks.nn.classifier import classifier_head
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features

SEEDS = (0, 1, 2)
WIDTHS = {"small": 8, "tiny": 4}


def classifier(job: Job, output: str, config: dict[str, Any], seed: int, clean: Artifact, classes: tuple[str, ...] = CLASSES, noise: float = 0.0) -> Artifact:
    """A Checkpoint of an untrained network with a head that is fitted by least squares to the train images, and disturbed by noise."""
    folder = draft(job, output)
    torch.manual_seed(seed)
    model = TimmEncoder(Encoder(**config))
    head = classifier_head(model.dim, len(classes))
    _fit(head, model, job, clean, classes, noise)
    save_encoder(folder, model, head)
    fields = {"encoder": model.config.model_dump(mode="json"), "mean": [0.5], "std": [0.5], "dim": model.dim, "exported": "encoder"}
    return seal(job, folder, output, **fields, classes=list(classes), metrics={"images_seen": 48.0, "seconds": 3.5})


def _fit(head: nn.Sequential, model: TimmEncoder, job: Job, clean: Artifact, classes: tuple[str, ...], noise: float) -> None:
    assert isinstance(clean, Dataset)
    table = manifest.read(clean)
    table = table.filter(manifest.column(table, "kept") & (manifest.column(table, "split") == "train"))
    x = features(model, open_images(table, job.workspace, 12, 1, job.cache, 1), [0.5], [0.5])
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    wanted = np.array([[6.0 * (label == name) for name in classes] for label in table["label"].to_pylist()])
    weights = np.linalg.lstsq(x, wanted, rcond=1e-3)[0]
    weights[:-1] += noise * np.random.default_rng(torch.initial_seed()).normal(size=weights[:-1].shape) * weights[:-1].std()
    layer = head[-1]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights[:-1].T))
        layer.bias.copy_(torch.from_numpy(weights[-1]))


def family(workspace: Path, clean: Artifact) -> dict[str, str]:
    """Keys of the data set and of all classifiers, by reference."""
    stage: dict[str, Any] = {"kind": "finetune", "dataset": "clean", "encoder": encoder(16), "train": TRAIN}
    teacher = classifier(job(workspace, "teacher", stage, {"clean": clean.key}), "", encoder(16), 0, clean)
    made = {"clean": clean.key, "teacher": teacher.key}
    for seed in SEEDS:
        name = f"students[seed={seed}]"
        students = {student: encoder(width) for student, width in WIDTHS.items()}
        stage = {"kind": "distill", "dataset": "clean", "teacher": "teacher", "method": "hinton", "students": students, "train": TRAIN, "seed": seed}
        outputs = (*students, *(f"{student}_alone" for student in students))
        distill = job(workspace, name, {**stage, "baseline": "alone"}, made, outputs)
        for i, output in enumerate(outputs):
            alone = output.endswith("_alone")
            config = students[output.removesuffix("_alone")]
            made[f"{name}.{output}"] = classifier(distill, output, config, 10 * seed + i, clean, noise=0.8 if alone else 0.2).key
    return made


def judged(seeds: tuple[int, ...] = SEEDS) -> dict[str, Any]:
    """Models and comparisons of an evaluate stage, as `distilled: [students]` stands for."""
    names = [f"students[seed={seed}].{student}" for seed in seeds for student in WIDTHS]
    compare = [{"student": name, "teacher": "teacher", "alone": f"{name}_alone"} for name in names]
    return {"models": ["teacher", *(each for name in names for each in (name, f"{name}_alone"))], "compare": compare}
