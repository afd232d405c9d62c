"""Bench: what protocols see of one model or baseline at a time: its features, and a classifier's scores, of one pass over the images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.artifacts import Checkpoint
from schemas.job import Job
from schemas.stages import Evaluate
from ssl_tasks.checkpoints import WEIGHTS, load_classifier, load_encoder
from ssl_tasks.data.files import Files, open_images
from ssl_tasks.data.store import side_for
from ssl_tasks.evaluate import baselines
from ssl_tasks.evaluate.accuracy import own_numbers
from ssl_tasks.evaluate.cost import Speed
from ssl_tasks.evaluate.knn import Floats, Ints
from ssl_tasks.evaluate.results import Role
from ssl_tasks.evaluate.split import Split
from ssl_tasks.nn.classifier import Classifier
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.nn.features import features

_RANDOM = "random init ("


@dataclass(frozen=True)
class Said:
    """A classifier's logits, and the true classes in its own numbers, -1 for one that it does not know.

    Attributes:
        queries: (Q, K), of the test images; `labels` (Q,).
        held: (H, K), of the images that a temperature is fitted to, all of classes that it knows; `held_labels` (H,).
    """

    classes: list[str]
    queries: Floats
    labels: Ints
    held: Floats
    held_labels: Ints


@dataclass(frozen=True)
class Seen:
    """One model or baseline.

    Attributes:
        features: (N, D), of every row of the split's table.
        parameters: how many made them.
        said: None where it is no classifier.
        teacher: what its teacher says, where it has one among the models; None where there is none, or it is no classifier.
        model: what a timing runs, on the device where it is; None for raw pixels.
        shape: of an image as the model is fed it, (C, H, W).
        bytes: of the file of its weights; 0 where there is none.
        timed: how fast its network was found to be, by device, batch and repeats: the same for all models of one network, which is timed once.
    """

    features: NDArray[np.float32]
    parameters: int
    said: Said | None = None
    teacher: Said | None = None
    model: TimmEncoder | Classifier | None = None
    shape: tuple[int, int, int] = (0, 0, 0)
    bytes: int = 0
    timed: dict[tuple[str, int, int], Speed] = field(default_factory=dict)


class Bench:
    """Makes what is seen of each model; what teachers say is kept.

    Args:
        teachers: of each model that has one among `models`, its name.
    """

    def __init__(self, job: Job, stage: Evaluate, parts: Split, models: Mapping[str, Checkpoint], teachers: Mapping[str, str]) -> None:
        self.job, self.stage, self.parts, self.models, self.teachers = job, stage, parts, models, teachers
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._said: dict[str, Said | None] = {}
        self._timed: dict[tuple[str, int, int | None], dict[tuple[str, int, int], Speed]] = {}

    def seen(self, name: str, role: Role) -> Seen:
        """What protocols see of a model or baseline."""
        if role == "pixels":
            smallest = min((m.encoder for m in self.models.values()), key=lambda e: e.image_size)
            side = side_for(self.parts.table, smallest.image_size)
            return Seen(baselines.pixels(self._images(min(side, baselines.LARGEST), smallest.channels)), 0)
        if role == "random":
            model = self.models[name.removeprefix(_RANDOM).removesuffix(")")]
            encoder = baselines.untrained(model.encoder, self.stage.seed)
            return Seen(self._encode(encoder, model), parameters(encoder))
        artifact = self.models[name]
        classifier = load_classifier(artifact, self.device)
        encoder = classifier.encoder if classifier else load_encoder(artifact, self.device)
        x = self._encode(encoder, artifact)
        said = self._say(classifier, x) if classifier else None
        if name in self.teachers.values():
            self._said[name] = said
        config = artifact.encoder
        shape = (config.channels, config.image_size, config.image_size)
        timed = self._timed.setdefault((config.model_dump_json(), len(artifact.classes), artifact.hidden), {})
        return Seen(x, parameters(encoder), said, self._of_teacher(name), classifier or encoder, shape, artifact.sizes[WEIGHTS], timed)

    def _of_teacher(self, name: str) -> Said | None:
        if (teacher := self.teachers.get(name)) is None:
            return None
        if teacher not in self._said:
            artifact = self.models[teacher]
            classifier = load_classifier(artifact, self.device)
            self._said[teacher] = self._say(classifier, self._encode(classifier.encoder, artifact)) if classifier else None
        return self._said[teacher]

    @torch.inference_mode()
    def _say(self, classifier: Classifier, x: NDArray[np.float32]) -> Said:
        labels = own_numbers(self.parts.labels, self.parts.classes, classifier.classes)
        held = self.parts.held[labels[self.parts.held] >= 0]

        def logits(rows: Ints) -> Floats:
            scores: Floats = classifier.head(torch.from_numpy(x[rows]).to(self.device)).float().cpu().numpy()
            return scores

        return Said(classifier.classes, logits(self.parts.queries), labels[self.parts.queries], logits(held), labels[held])

    def _encode(self, encoder: TimmEncoder, model: Checkpoint) -> NDArray[np.float32]:
        images = self._images(side_for(self.parts.table, model.encoder.image_size), model.encoder.channels)
        return features(encoder, images, model.mean, model.std, device=self.device)

    def _images(self, side: int, channels: int) -> NDArray[np.uint8] | Files:
        return open_images(self.parts.table, self.job.workspace, side, channels, self.job.cache, self.stage.resources.store)


def untrained(models: Mapping[str, Checkpoint]) -> dict[str, str]:
    """The name of the untrained network that each model began as: one an encoder, called by the first model that has it."""
    first: dict[str, str] = {}
    for name, model in models.items():
        first.setdefault(model.encoder.model_dump_json(), name)
    return {name: f"{_RANDOM}{first[model.encoder.model_dump_json()]})" for name, model in models.items()}
