"""World: what all models of an evaluation are judged on."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.artifacts import Artifact, Dataset, read
from schemas.job import Job
from schemas.protocols.classifiers import Calibration
from schemas.stages import Evaluate
from ssl_tasks.data import manifest
from ssl_tasks.data.files import Files, open_images
from ssl_tasks.evaluate.split import Split, split

Images = NDArray[np.uint8] | Files


@dataclass(frozen=True)
class World:
    """The data set of an evaluation, in its parts.

    Attributes:
        job: whose workspace, cache and inputs it is of.
        parts: which of its images play which part.
        device: on which models run.
        shared: what protocols keep for the next model, such as a baseline's errors.
    """

    job: Job
    stage: Evaluate
    parts: Split
    device: str = "cpu"
    shared: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    _others: dict[str, "World"] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, job: Job, stage: Evaluate, device: str) -> Self:
        """The data set that a stage evaluates on."""
        dataset = read(job.folder(job.inputs[stage.dataset]))
        assert isinstance(dataset, Dataset)
        val = any(isinstance(protocol, Calibration) for protocol in stage.protocols)
        return cls(job, stage, split(manifest.read(dataset), stage.seed, val), device)

    @property
    def seed(self) -> int:
        """Of everything random in an evaluation."""
        return self.stage.seed

    @property
    def table(self) -> pa.Table:
        """The listed images, in whose order everything is."""
        return self.parts.table

    @cached_property
    def dataset(self) -> Dataset:
        """The artifact that lists them."""
        found = self.artifact(self.stage.dataset)
        assert isinstance(found, Dataset)
        return found

    def images(self, side: int, channels: int) -> Images:
        """Every image as a square, uint8 (N, C, S, S), stored decoded where there is room for that."""
        return open_images(self.table, self.job.workspace, side, channels, self.job.cache, self.stage.resources.store)

    def other(self, dataset: str) -> "World":
        """Another data set that a protocol names, as a world of its own; made once."""
        if dataset not in self._others:
            self._others[dataset] = World.of(self.job, self.stage.model_copy(update={"dataset": dataset}), self.device)
        return self._others[dataset]

    def artifact(self, reference: str) -> Artifact:
        """What a reference of the stage stands for."""
        return read(self.job.folder(self.job.inputs[reference]))
