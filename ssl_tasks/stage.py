"""What stages that train share: images out of a Dataset, and a Checkpoint out of what was learned."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.artifacts import Artifact, Checkpoint, Dataset, read, sha256
from schemas.dvae import DVAE
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Distill, Finetune, Pretrain, Tokenizer
from schemas.starts import InitFrom
from ssl_tasks import artifacts, distributed, failures
from ssl_tasks.checkpoints import load_encoder, save_encoder, save_training_state
from ssl_tasks.continued import training_state
from ssl_tasks.data import manifest
from ssl_tasks.data.files import open_images
from ssl_tasks.data.loader import Batches, Images
from ssl_tasks.data.memory import keep_freed_memory
from ssl_tasks.data.store import side_for
from ssl_tasks.data.subset import Subset
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.energy import Meter
from ssl_tasks.learner import Learner
from ssl_tasks.monitors import Look
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.tracking import Tracker
from ssl_tasks.weights import State, initialise, read_weights

CURVE, WATCHED, ENERGY = "metrics.jsonl", "watch.jsonl", "joules"


class Training:
    """The images of a stage that trains, on the device of this rank, and what the tracker is told before the first step.

    Attributes:
        device: of this rank.
        images: the kept train images, uint8 (N, C, S, S): memory-mapped, or decoded when they are taken.
        labels: of the images, as text; None where one has none.
        look: the monitors, on a sample of them.
    """

    def __init__(
        self,
        job: Job,
        stage: Pretrain | Distill | Finetune | Tokenizer,
        encoder: Encoder | DVAE,
        counts: Mapping[str, int],
        tracker: Tracker,
        choose: Callable[[list[str | None]], NDArray[np.int64]] | None = None,
    ) -> None:
        """Open the images.

        Args:
            encoder: whose image size and channels the images are stored for.
            counts: the networks' numbers of parameters, by what they are called.
            choose: which rows are trained on, by the images' labels; all where not given.
        """
        self.job, self.stage, self.device = job, stage, distributed.start()
        keep_freed_memory()
        dataset = read(job.folder(job.inputs[stage.dataset]))
        assert isinstance(dataset, Dataset)
        table = manifest.kept(manifest.read(dataset))
        if not len(table):
            raise UserError(f"dataset '{stage.dataset}' keeps no image of the train split: see what its steps removed, and why")
        side = side_for(table, encoder.image_size)
        self.images: Images = open_images(table, job.workspace, side, encoder.channels, job.cache, stage.resources.store)
        self.labels: list[str | None] = manifest.column(table, "label").tolist()
        if choose:
            rows = choose(self.labels)
            self.images, self.labels = Subset(self.images, rows), [self.labels[row] for row in rows]
        self.look = Look(self.images, self.labels, stage.seed, self.device)
        self._meter = Meter(job.work / ENERGY) if distributed.is_main() else None
        if distributed.is_main():
            facts: dict[str, Any] = {
                **counts,
                "images": len(self.images),
                "steps": stage.train.steps(len(self.images)),
                "threads": torch.get_num_threads(),
                "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
                "ranks": distributed.world_size(),
            }
            tracker.params(facts)

    def fitting(self, tracker: Tracker) -> dict[str, Any]:
        """Arguments of `fit` and `fit_together` that the stage decides."""
        return {"seed": self.stage.seed, "workdir": self.job.work, "tracker": tracker, "device": self.device, "look": self.look}

    @contextmanager
    def failures_kept(self) -> Iterator[None]:
        """Where a step makes the loss or the weights infinite or not a number, keep what replays it, and name the command that does.

        Raises:
            UserError: then.
        """
        try:
            yield
        except failures.NotFinite as error:
            folder = self.job.work / failures.FOLDER
            if distributed.is_main():
                ranks = distributed.world_size()
                size = min(self.stage.train.batch_size, len(self.images) // ranks * ranks)
                rows = Batches(self.images, size, self.stage.seed, self.device).rows(error.step - 1)
                failures.keep(folder, self.job, self.stage.seed, error, self.images[rows], ranks, self.device)
            raise UserError(f"{error}; see where it begins: sslflow replay {shlex.quote(str(folder))}") from error

    def seal(
        self, learner: Learner, exported: str, classes: Sequence[str] = (), hidden: int | None = None, watched: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Artifact]:
        """The Checkpoint of a learner, by the name of its output; empty on ranks that are not the main one.

        Args:
            exported: which part of the method the weights are.
            classes: of the method's classifier, where it trains one.
            hidden: width of its hidden layer.
            watched: what was found beside the training; see `watching.py`.
        """
        if not distributed.is_main():
            return {}
        encoder = learner.method.exported()
        assert isinstance(encoder, TimmEncoder)
        folder = artifacts.draft(self.job, learner.name)
        head = learner.method.classifier()
        save_encoder(folder, encoder, head)
        if isinstance(self.stage, Pretrain) and self.stage.keep_training_state:
            save_training_state(folder, training_state(learner))
        mean, std = MEAN_STD[encoder.config.channels]
        part = exported + " with neck" * bool(encoder.config.neck) + " with classifier" * (head is not None)
        fields = {"encoder": encoder.config.model_dump(mode="json"), "mean": mean, "std": std, "dim": encoder.dim, "exported": part}
        fields |= {"classes": list(classes), "hidden": hidden} if head is not None else {}
        return {learner.name: self.finish(folder, learner, fields, {"parameters": parameters(encoder)}, watched)}

    def finish(
        self, folder: Path, learner: Learner, fields: Mapping[str, Any], metrics: Mapping[str, float], watched: Sequence[Mapping[str, Any]] = ()
    ) -> Artifact:
        """Seal a payload folder with the learner's curve and the numbers of its training, on the main rank.

        Args:
            fields: what the artifact's type states of itself.
            metrics: besides those of the training.
        """
        points = [{"step": found["step"], f"watch/{found['measure']}": found["value"]} for found in watched]
        _write_lines(folder / CURVE, [*learner.curve, *points])
        if watched:
            _write_lines(folder / WATCHED, watched)
        numbers = {**learner.summary(min(self.stage.train.batch_size, len(self.images))), **metrics}
        if self._meter and (joules := self._meter.joules) is not None:
            numbers["joules"] = round(joules, 1)
        return artifacts.seal(self.job, folder, learner.name, **fields, metrics=numbers)


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def checkpoint(job: Job, reference: str) -> Checkpoint:
    """The Checkpoint that one of the stage's references stands for."""
    artifact = read(job.folder(job.inputs[reference]))
    assert isinstance(artifact, Checkpoint)
    return artifact


def start_from(encoder: TimmEncoder, start: InitFrom, job: Job, key: str = "init_from") -> str:
    """Give an encoder the weights of a stage's checkpoint or of a file; what was done, in a line.

    Args:
        key: of the config that `start` stands under, for messages.

    Raises:
        UserError: where they are of another network, or the file is missing, damaged or not the one that was planned with.
    """
    if start.stage:
        source = load_encoder(checkpoint(job, start.stage))
        note = initialise(encoder, source.backbone.state_dict(), f"'{start.stage}'")
        if not _same(source.neck.state_dict(), encoder.neck.state_dict()):
            return f"{note}; without its neck" if len(source.neck) else note
        encoder.neck.load_state_dict(source.neck.state_dict())
        return note
    path = job.workspace / str(start.file)
    weights = read_weights(path, f"{key}.file")
    if job.stamp and sha256(path) not in job.stamp.split("+"):
        raise UserError(f"{key}.file: {path} has changed since the run was planned: run again")
    return initialise(encoder, weights, str(start.file))


def _same(state: State, other: State) -> bool:
    """Whether two states have the same names and shapes."""
    return {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in other.items()}
