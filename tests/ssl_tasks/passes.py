"""Distillations of several students over one teacher, small enough for tests; see `test_distill` for the workspace and the teacher."""

from pathlib import Path
from typing import Any

import torch
from test_distill import DISTILLER, NARROW, VIEWS, job
from tiny_training import CONV, TRAIN, VIT, Recorder

from schemas.artifacts import Checkpoint
from schemas.distillers import DML, RKD
from schemas.encoders import Encoder
from schemas.stages import Distill
from schemas.students import Student
from schemas.training import SGD
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.distill import distill


def student(encoder: Encoder, method: Any = DISTILLER, **train: Any) -> Student:
    """A student of its own method; `train` is what of its budget and optimizer differs from the stage's."""
    return Student.model_validate({**encoder.model_dump(), "method": method, "train": train or None})


UNLIKE = {
    "vit": student(VIT),
    "short": student(NARROW, RKD(), epochs=2.0, optimizer=SGD(learning_rate=0.01)),
    "large": student(CONV.model_copy(update={"image_size": 12}), epochs=3.0, checkpoint_steps=4),
}
"""Students of other networks, losses, image sizes, optimizers and budgets: 16, 8 and 12 steps."""
PEERS = {"one": student(NARROW, DML(), epochs=3.0, checkpoint_steps=3), "other": student(CONV, DML(), checkpoint_steps=4)}
"""Students that look at each other, of 12 and 16 steps."""


def one_pass(workspace: Path, students: dict[str, Student], run: str, tracker: Recorder | None = None, **fields: Any) -> dict[str, Checkpoint]:
    """Distill students of the artifact `teacher`, if any is taught; `run` keeps their keys and work folders apart from those of other runs."""
    torch.set_num_threads(1)
    taught = any(method.taught for each in students.values() for method in each.methods)
    settings = {"views": VIEWS, "train": TRAIN, "seed": 5, **fields}
    stage = Distill(dataset="data", teacher="teacher" if taught else None, students=students, **settings)
    inputs = {"data": "data", "teacher": "teacher"} if taught else {"data": "data"}
    made = distill(job(workspace, f"students-{run}", stage, inputs, {name: f"{run}-{name}" for name in students}), tracker or Recorder())
    return {name: artifact for name, artifact in made.items() if isinstance(artifact, Checkpoint)}


def results(made: dict[str, Checkpoint]) -> dict[str, tuple[str, str]]:
    """What each student came to: the hashes of its weights and of its curve."""
    return {name: (artifact.files[WEIGHTS], artifact.files["metrics.jsonl"]) for name, artifact in made.items()}
