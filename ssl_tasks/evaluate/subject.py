"""Subject: one model or baseline that is judged, with what protocols see of it, each made when it is first asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.artifacts import Checkpoint
from schemas.encoders import Encoder
from ssl_tasks.checkpoints import WEIGHTS, load_classifier, load_encoder
from ssl_tasks.data.store import side_for
from ssl_tasks.evaluate import baselines, features
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.results import Role
from ssl_tasks.evaluate.split import own_numbers
from ssl_tasks.evaluate.timing import Speed
from ssl_tasks.evaluate.world import Images, World
from ssl_tasks.nn.classifier import Classifier
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.nn.features import features as encoded
from ssl_tasks.nn.features import prepare
from ssl_tasks.nn.vit import Features

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


class Subject:
    """A model, an encoder before any training, or raw pixels.

    Attributes:
        artifact: the checkpoint; of an encoder before any training that of the model that began as it; None for raw pixels.
        config: of the encoder; of raw pixels the smallest model's.
        timed: how fast its network was found to be, by device, batch and repeats: the same for all models of one network, which is timed once.
    """

    def __init__(self, name: str, role: Role, artifact: Checkpoint | None, config: Encoder, world: World) -> None:
        self.name, self.role, self.artifact, self.config, self.world = name, role, artifact, config, world
        self.timed: dict[tuple[str, int, int], Speed] = {}
        self.teacher: Said | None = None
        """What its teacher says, where it has one among the models that is a classifier."""
        self.shared: dict[Any, Any] = {}
        """What one protocol made that another can use, by a key that names it; let go of with the rest."""

    @property
    def is_model(self) -> bool:
        """Whether it is one of the models, not a baseline."""
        return self.role not in ("pixels", "random")

    @cached_property
    def classifier(self) -> Classifier | None:
        """In eval mode, on the device; None where it is none."""
        return load_classifier(self.artifact, self.world.device) if self.is_model and self.artifact else None

    @cached_property
    def encoder(self) -> TimmEncoder:
        """Frozen, in eval mode, on the device. Raises Skipped of raw pixels."""
        if self.role == "pixels" or self.artifact is None:
            raise Skipped("is no network")
        if self.role == "random":
            return baselines.untrained(self.config, self.world.seed).to(self.world.device).eval()
        return self.classifier.encoder if self.classifier else load_encoder(self.artifact, self.world.device)

    @property
    def size(self) -> int:
        """Side in pixels of the squares that it is fed."""
        return self.config.image_size if self.role != "pixels" else min(self.side, baselines.LARGEST)

    @property
    def side(self) -> int:
        """Of the squares that images are stored as for it."""
        return side_for(self.world.table, self.config.image_size)

    @cached_property
    def parameters(self) -> int:
        """How many made its features; 0 for raw pixels."""
        return 0 if self.role == "pixels" else parameters(self.encoder)

    @property
    def dim(self) -> int:
        """Length of its feature vector."""
        return int(self.stored.shape[1])

    @property
    def bytes(self) -> int:
        """Of the file of its weights; 0 where there is none."""
        return self.artifact.sizes[WEIGHTS] if self.is_model and self.artifact else 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image as it is fed it, (C, H, W)."""
        return self.config.channels, self.size, self.size

    @property
    def images(self) -> Images:
        """Every image of the table as it is stored for it, (N, C, S, S)."""
        return self.world.images(self.size if self.role == "pixels" else self.side, self.config.channels)

    @property
    def features(self) -> NDArray[np.float32]:
        """(N, D), of every row of the table, as they come out: not normalised. Read-only, and of a network memory-mapped.

        Raises:
            Skipped: where they say nothing of the images, see `unfit`.
        """
        if self.unfit:
            raise Skipped(self.unfit)
        return self.stored

    @cached_property
    def unfit(self) -> str:
        """Why nothing can be judged by its features, after its name; empty where it can."""
        return features.unfit(self.stored)

    @property
    def finite(self) -> bool:
        """Whether its features are numbers; else neither are those of its patches."""
        return self.unfit != features.NOT_FINITE

    @cached_property
    def stored(self) -> NDArray[np.float32]:
        """As `features`, whatever they are."""
        if self.role == "pixels" or self.artifact is None:
            return baselines.pixels(self.images)
        return self.kept("", self.encoder.dim, self._fill)

    def kept(self, what: str, width: int, make: Callable[[NDArray[np.float32]], None]) -> NDArray[np.float32]:
        """Features (N, width) of a network, of every row of the table, made once and kept on disk: read-only, memory-mapped.

        Args:
            what: names them, with all that they follow from besides the network and how its images are prepared; empty for `features`.
            make: fills them, a batch at a time.
        """
        identity = self.identity() | ({"what": what} if what else {})
        return features.kept(self.world.job.cache, identity, (len(self.world.table), width), make, self.world.stage.resources.store)

    def prepare(self, images: Tensor) -> Tensor:
        """Squares (B, C, S, S) of uint8 as the encoder is fed them in evaluation: resized, cropped, normalised, on the device."""
        assert self.artifact
        return prepare(images.to(self.world.device), self.config.image_size, self.artifact.mean, self.artifact.std)

    @torch.inference_mode()
    def embed(self, images: Tensor) -> Features:
        """Pooled features (B, D) and those of patches or places (B, N, W), of squares (B, C, S, S) of uint8; of raw pixels the former alone."""
        if self.role == "pixels":
            values = images.reshape(len(images), -1).float() / 255
            return Features(values, values[:, None])
        return self.encoder.tokens(self.prepare(images))

    def batches(self, rows: Ints, size: int = 256) -> Iterator[Tensor]:
        """The stored squares of some rows, uint8 (B, C, S, S), a batch at a time, in their order."""
        images = self.images
        for start in range(0, len(rows), size):
            yield torch.from_numpy(np.array(images[rows[start : start + size].astype(np.int64)]))

    @cached_property
    def said(self) -> Said | None:
        """What it says of the images as a classifier; None where it is none."""
        return self._say(self.classifier) if self.classifier else None

    @property
    def known(self) -> Said:
        """What it says as a classifier that knows classes of the test images. Raises Skipped of any other."""
        if self.said is None:
            raise Skipped("is no classifier")
        if (self.said.labels < 0).all():
            raise Skipped(f"knows none of the test images' classes; it knows {', '.join(self.said.classes[:8])}")
        return self.said

    def release(self) -> None:
        """Let go of everything large."""
        self.shared.clear()
        for name in ("classifier", "encoder", "stored"):
            self.__dict__.pop(name, None)

    @torch.inference_mode()
    def _say(self, classifier: Classifier) -> Said:
        parts = self.world.parts
        labels = own_numbers(parts.labels, parts.classes, classifier.classes)
        held = parts.held[labels[parts.held] >= 0]

        def logits(rows: Ints) -> Floats:
            scores: Floats = classifier.head(torch.from_numpy(self.features[rows]).to(self.world.device)).float().cpu().numpy()
            return scores

        return Said(classifier.classes, logits(parts.queries), labels[parts.queries], logits(held), labels[held])

    def identity(self) -> dict[str, object]:
        """What a network's features follow from, as JSON values: its weights, its images, and how they are prepared."""
        assert self.artifact
        weights = self.artifact.files[WEIGHTS] if self.role != "random" else f"seed {self.world.seed}"
        table = self.world.table
        return {
            "weights": weights, "encoder": self.config.model_dump(mode="json"), "mean": self.artifact.mean, "std": self.artifact.std,
            "images": features.digest(table["sha256"].to_pylist()), "side": self.side, "device": self.world.device,
        }  # fmt: skip

    def _fill(self, rows: NDArray[np.float32]) -> None:
        assert self.artifact
        encoded(self.encoder, self.images, self.artifact.mean, self.artifact.std, device=self.world.device, into=rows)


class Bench:
    """Makes the subjects of an evaluation, one at a time; what teachers say is kept.

    Args:
        teachers: of each model that has one among `models`, its name.
    """

    def __init__(self, world: World, models: Mapping[str, Checkpoint], teachers: Mapping[str, str]) -> None:
        self.world, self.models, self.teachers = world, models, teachers
        self._said: dict[str, Said | None] = {}
        self._timed: dict[tuple[str, int, int | None], dict[tuple[str, int, int], Speed]] = {}

    def subject(self, name: str, role: Role) -> Subject:
        """A model or baseline by its name."""
        if role == "pixels":
            return Subject(name, role, None, min((m.encoder for m in self.models.values()), key=lambda e: e.image_size), self.world)
        model = self.models[name.removeprefix(_RANDOM).removesuffix(")") if role == "random" else name]
        subject = Subject(name, role, model, model.encoder, self.world)
        if subject.is_model:
            subject.timed = self._timed.setdefault((model.encoder.model_dump_json(), len(model.classes), model.hidden), {})
            if teacher := self.teachers.get(name):
                subject.teacher = self._of(teacher)
        return subject

    def _of(self, teacher: str) -> Said | None:
        if teacher not in self._said:
            model = self.models[teacher]
            asked = Subject(teacher, "teacher", model, model.encoder, self.world)
            self._said[teacher] = asked.said if model.classes and not asked.unfit else None
        return self._said[teacher]


def untrained(models: Mapping[str, Checkpoint]) -> dict[str, str]:
    """The name of the untrained network that each model began as: one an encoder, called by the first model that has it."""
    first: dict[str, str] = {}
    for name, model in models.items():
        first.setdefault(model.encoder.model_dump_json(), name)
    return {name: f"{_RANDOM}{first[model.encoder.model_dump_json()]})" for name, model in models.items()}
