"""A small world in which any protocol can judge: 60 drawn scenes, another 40 of another seed, and four models that nobody trained."""

from pathlib import Path
from typing import Any

import torch
from evaluated import done, job
from pydantic import TypeAdapter
from torch import nn

from schemas.artifacts import Artifact, Checkpoint
from schemas.encoders import Encoder
from schemas.job import Job
from schemas.protocols import Protocol, ProtocolSpec
from schemas.stages import Evaluate
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.data.shapes import SHAPES
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.evaluate.world import World
from ssl_tasks.nn.classifier import classifier_head
from ssl_tasks.nn.encoder import TimmEncoder

VIT: dict[str, Any] = {"name": "vit_tiny_patch16_224", "image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 2}
CONVNET: dict[str, Any] = {"name": "resnet10t", "image_size": 32, "stem": "cifar", "options": {"channels": [8, 8, 16, 16], "stem_width": 8}}
TRAIN = {"epochs": 2, "batch_size": 16, "warmup": 0.0}

SMALL: dict[str, dict[str, Any]] = {
    "knn": {"k": 5},
    "few_shot": {"shots": 1, "draws": 3},
    "linear": {"strengths": 3},
    "linear_probe": {"learning_rates": [0.01, 0.1], "steps": 40, "batch_size": 16},
    "mlp_probe": {"learning_rates": [0.01], "epochs": 5, "batch_size": 16},
    "low_label": {"share": 0.5, "draws": 2, "strengths": 3},
    "fine_tuned": {"train": {"epochs": 1, "batch_size": 16, "monitors": 1}},
    "segmentation": {"annotations": "drawn", "steps": 8, "batch_size": 4},
    "depth": {"annotations": "drawn", "steps": 8, "batch_size": 4},
    "detection": {"annotations": "drawn", "steps": 2, "batch_size": 2, "width": 8},
    "propagation": {"annotations": "drawn"},
    "correspondence": {"annotations": "drawn"},
    "lidar": {"views": 3},
    "corruptions": {"severities": [1, 5], "samples": 8, "probe": "knn"},
    "shift": {"dataset": "other", "probe": "knn"},
    "groups": {"probe": "knn"},
    "reliability": {"probe": "knn"},
    "out_of_distribution": {"dataset": "other", "k": 3},
}
"""Of each protocol settings under which it takes a second, where its own take longer or some must be given."""


def protocol(kind: str, **settings: Any) -> ProtocolSpec:
    """A protocol as YAML would state it, small."""
    made: ProtocolSpec = TypeAdapter[Any](Protocol).validate_python({"kind": kind, **SMALL.get(kind, {}), **settings})
    return made


class SmallWorld:
    """The world, in a workspace of its own, and its models by name: `vit`, `convnet`, `classifier`, `pixels`, `random`."""

    def __init__(self, workspace: Path, size: int = 48) -> None:
        self.workspace = workspace
        self.inputs = {name: self._scenes(name, count, size, seed).key for name, count, seed in (("raw", 60, 0), ("other", 40, 1))}
        self.models: dict[str, Checkpoint] = {}
        for name, encoder, classes in (("vit", VIT, ()), ("convnet", CONVNET, ()), ("classifier", VIT, SHAPES)):
            self.models[name] = self._model(name, encoder, tuple(classes))
            self.inputs[name] = self.models[name].key

    def evaluation(self, protocols: list[Any], **fields: Any) -> Job:
        """The job that judges the models by protocols as YAML states them."""
        stage = {"kind": "evaluate", "dataset": "raw", "models": [*self.models], "protocols": protocols, "seed": 7, **fields}
        return job(self.workspace, "report", stage, self.inputs)

    def subject(self, name: str, **fields: Any) -> Subject:
        """What a protocol judges: one of the models, `pixels`, or `random`, the ViT as it began."""
        asked = self.evaluation(["rank"], **fields)
        assert isinstance(asked.stage, Evaluate)
        world = World.of(asked, asked.stage, "cpu")
        model = self.models.get(name, self.models["vit"])
        if name == "pixels":
            return Subject(name, "pixels", None, model.encoder, world)
        return Subject(name, "random" if name == "random" else "pretrained", model, model.encoder, world)

    def _scenes(self, name: str, count: int, size: int, seed: int) -> Artifact:
        source = {"kind": "scenes", "count": count, "size": size, "seed": seed, "test": 0.4}
        return done(job(self.workspace, name, {"kind": "ingest", "source": source}, {}))[""]

    def _model(self, name: str, encoder: dict[str, Any], classes: tuple[str, ...]) -> Checkpoint:
        """An encoder as it is initialised; under `classes` with a head, as a finetune stage would seal it."""
        trained = {"method": "simclr"} if not classes else {}
        stage = {"kind": "finetune" if classes else "pretrain", "dataset": "raw", "encoder": encoder, "train": TRAIN, **trained}
        made = job(self.workspace, name, stage, {"raw": self.inputs["raw"]})
        folder = draft(made)
        torch.manual_seed(len(name))
        model = TimmEncoder(Encoder(**encoder))
        head: nn.Module | None = classifier_head(model.dim, len(classes)) if classes else None
        save_encoder(folder, model, head)
        fields = {"encoder": model.config.model_dump(mode="json"), "mean": [0.5] * 3, "std": [0.25] * 3, "dim": model.dim, "exported": "encoder"}
        sealed = seal(made, folder, **fields, classes=list(classes))
        assert isinstance(sealed, Checkpoint)
        return sealed
