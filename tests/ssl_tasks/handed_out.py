"""Checkpoints to hand out, without training: small networks with weights that have seen numbers."""

from pathlib import Path
from typing import Any

import torch
from tiny_training import CONV, VIT, Recorder
from torch import nn

from schemas.artifacts import Checkpoint, Export
from schemas.encoders import Encoder
from schemas.job import Job
from schemas.methods import SimCLR
from schemas.stages import Export as Stage
from schemas.stages import Pretrain
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.export import export
from ssl_tasks.nn.classifier import classifier_head
from ssl_tasks.nn.encoder import TimmEncoder

PLAIN_CONV = CONV.model_copy(update={"stem": "imagenet", "image_size": 32})
"""A ConvNet that timm knows as it stands."""
GEM = VIT.model_copy(update={"pooling": "gem", "head": 4})
CLASSES = ["cat", "dog", "hen"]


def checkpoint(workspace: Path, config: Encoder, classes: list[str] = [], hidden: int | None = None, **fields: Any) -> Checkpoint:  # noqa: B006
    """The artifact `teacher`: an encoder, or a classifier, whose weights and batch norms are random."""
    torch.manual_seed(0)
    encoder = TimmEncoder(config)
    head = classifier_head(encoder.dim, len(classes), hidden) if classes else None
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]  # it keeps statistics
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]  # likewise
    encoder.backbone.requires_grad_(False)
    for value in encoder.backbone.parameters():  # nothing may be zero at first, such as a CLS token's position
        value.add_(torch.randn_like(value) * 0.1)
    stage = Pretrain(dataset="data", method=SimCLR(), encoder=config.model_copy(update={"whitening": None}), init_from=fields.pop("init_from", None))
    job = Job(name="teacher", pipeline="p", stage=stage, key="k", inputs=fields.pop("inputs", {}), outputs={"": "teacher-key"}, workspace=workspace)
    folder = artifacts.draft(job)
    save_encoder(folder, encoder, head)
    stated = {"encoder": config.model_dump(), "mean": [0.4] * config.channels, "std": [0.2] * config.channels, "dim": encoder.dim, "exported": "encoder"}
    made = artifacts.seal(job, folder, **stated, classes=classes, hidden=hidden, **fields)
    assert isinstance(made, Checkpoint)
    return made


def handed_out(source: Checkpoint, tracker: Recorder | None = None, **stage: Any) -> Export:
    """What an Export stage makes of a checkpoint."""
    stated = Stage.model_validate({"kind": "export", "checkpoint": "teacher", **stage})
    inputs = {"teacher": source.key, **{name: f"{name}-key" for name in stated.reports}}
    job = Job(name="model", pipeline="p", stage=stated, key="m", inputs=inputs, outputs={"": "model-key"}, workspace=source.folder.parents[2])
    made = export(job, tracker or Recorder())[""]
    assert isinstance(made, Export)
    return made
