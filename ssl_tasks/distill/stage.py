"""Distill: several students trained in one pass over a frozen teacher, each as if it were the only one."""

import torch
from torch import Tensor

from schemas.artifacts import Artifact, Checkpoint, read
from schemas.distillers import Feature as FeatureConfig
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Distill
from ssl_tasks import distributed
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.loader import seed_of
from ssl_tasks.data.views import augment, resized
from ssl_tasks.distill.distiller import Distiller
from ssl_tasks.distill.feature import Feature
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.stage import Training
from ssl_tasks.tracking import Tracker
from ssl_tasks.train import fit_together


def build(config: FeatureConfig, student: TimmEncoder, teacher_dim: int) -> Distiller:
    """The distiller that a config describes, around a student that it trains."""
    return Feature(config, student, teacher_dim)


def distill(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Train the students of a Distill stage that are asked for in `job.outputs`, and seal each as a Checkpoint.

    Views and the teacher's features of them are made once a batch. A student's weights follow from the seed and its own name,
    so that they do not depend on who else is trained.

    Raises:
        UserError: where a student failed by something that a retry cannot mend; the others are sealed.
        RuntimeError: where one failed by something that it may mend.
    """
    stage = job.stage
    assert isinstance(stage, Distill)
    artifact = read(job.folder(job.inputs[stage.teacher]))
    assert isinstance(artifact, Checkpoint)
    teacher = load_encoder(artifact).requires_grad_(False)
    students = {name: stage.students[name] for name in job.outputs}
    for name, student in students.items():
        if student.channels != teacher.config.channels:
            raise UserError(f"students.{name}.channels is {student.channels}, but the teacher sees {teacher.config.channels}: make them the same")
    distillers = {}
    for name, student in students.items():
        torch.manual_seed(seed_of(stage.seed, "weights", name))
        distillers[name] = build(stage.method, TimmEncoder(student), teacher.dim)
    counts = {f"{name}/parameters": parameters(distiller.student) for name, distiller in distillers.items()}
    training = Training(job, stage, teacher.config, {**counts, "teacher/parameters": parameters(teacher)}, tracker)
    teacher.to(training.device)
    size = teacher.config.image_size

    def views(images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(stage.method.views, images, size, draw)

    def targets(views: list[Tensor]) -> Tensor:
        features: Tensor = teacher(torch.cat([resized(view, size) for view in views]))
        return features

    learners = fit_together(distillers, training.images, stage.train, views=views, targets=targets, **training.fitting(tracker))
    sealed: dict[str, Artifact] = {}
    for learner in learners.values():
        if not learner.failure:
            sealed |= training.seal(learner, "student encoder")
    distributed.stop()
    _raise_failures({name: learner.failure for name, learner in learners.items() if learner.failure})
    return sealed


def _raise_failures(failures: dict[str, Exception]) -> None:
    """Raise one error that names all failed students; one that a retry may mend where it may mend any of them."""
    if not failures:
        return
    message = "; ".join(f"student '{name}' failed: {str(error).removeprefix(f'{name}: ')}" for name, error in failures.items())
    passing = [error for error in failures.values() if not isinstance(error, UserError)]
    if passing:
        raise RuntimeError(message) from passing[0]
    raise UserError(message) from next(iter(failures.values()))
