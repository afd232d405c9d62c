"""Distill: several students trained in one pass over a frozen teacher, each as if it were the only one."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from schemas.artifacts import Artifact, Checkpoint, read
from schemas.baselines import by_labels
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Distill, Pretrain
from schemas.students import ALONE
from schemas.students import Student as StudentConfig
from ssl_tasks import distributed, memory, methods
from ssl_tasks.data.loader import seed_of
from ssl_tasks.distill import alone, starts
from ssl_tasks.distill.fit import doubts
from ssl_tasks.distill.labels import Labels
from ssl_tasks.distill.labels import doubt as labels_doubt
from ssl_tasks.distill.lessons import Lecturer, Lessons, cache_of, cost
from ssl_tasks.distill.network import Network, Shapes
from ssl_tasks.distill.objective import Setting
from ssl_tasks.distill.objectives import OBJECTIVES, build, wants_places
from ssl_tasks.distill.student import Student
from ssl_tasks.distill.teacher import prototype_heads
from ssl_tasks.nn.classifier import classifier_head
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.stage import Training, start_from
from ssl_tasks.tracking import Tracker
from ssl_tasks.train import fit, fit_together


def distill(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Train the students of a Distill stage that are asked for in `job.outputs`, and seal each as a Checkpoint.

    Views and what the teacher says of them are made once a batch. A student's weights follow from the seed and its own name,
    so that they do not depend on who else is trained.

    Raises:
        UserError: where a student failed by something that a retry cannot mend; the others are sealed.
        RuntimeError: where one failed by something that it may mend.
        TryAgain: where one ran out of memory on one of several ranks; the next try leaves it out and makes the others.
    """
    stage = job.stage
    assert isinstance(stage, Distill)
    artifact = _teacher_artifact(job, stage)
    together, pretrained = _asked_for(stage, job.outputs, artifact)
    for name, student in together.items():
        if artifact and student.channels != artifact.encoder.channels:
            raise UserError(f"students.{name}.channels is {student.channels}, but the teacher sees {artifact.encoder.channels}: make them the same")
    largest = max(stage.students.values(), key=lambda s: s.image_size).encoder
    reference = artifact.encoder if artifact else largest
    counts = {f"{name}/parameters": parameters(TimmEncoder(student.encoder)) for name, student in together.items()}
    training = Training(job, stage, reference, counts, tracker)
    cache = cache_of(job, artifact, training.images[np.arange(1)].shape[-1], reference.image_size, training.device, tracker.note) if artifact else None
    teacher = Lecturer(artifact, list(together.values()), training.device, cache) if artifact else None
    heads = prototype_heads(artifact) if artifact and _wants_heads(together) else None
    labels = Labels.of(training.labels, artifact, list(together.values()), stage)
    students = {name: _student(training, name, student, teacher.shapes if teacher else None, heads, labels, tracker) for name, student in together.items()}
    if artifact and teacher:
        remarks = [teacher.note, labels_doubt(artifact, list(together.values())), *doubts(students, _outline(artifact.encoder))]
        for remark in filter(None, remarks):
            tracker.note(remark)
    _introduce(students)
    spread = stage.spread and distributed.world_size() > 1
    lessons = Lessons(stage, reference.image_size, teacher, labels, training.device, spread)
    sealed, failures = _taught(students, lessons, labels, training, tracker) if students else ({}, {})
    if cache:
        cache.close()
    for output, config in pretrained.items():
        try:
            sealed |= _pretrain_alone(config, output, training, tracker)
        except Exception as error:
            if distributed.world_size() > 1:
                raise
            failures[output] = error
    if failures:
        if distributed.is_main():
            memory.forget(job.work)
        distributed.barrier()  # a rank that ends with an error ends the others, of which the main one may still be sealing
    distributed.stop()
    _raise_failures(failures)
    return sealed


def _taught(
    students: Mapping[str, Student], lessons: Lessons, labels: Labels, training: Training, tracker: Tracker
) -> tuple[dict[str, Artifact], dict[str, Exception]]:
    """Train students together; those that are sealed, and what ended the others."""
    configs = {name: student.config.train for name, student in students.items() if student.config.train}
    costs = {name: cost(student.network) for name, student in students.items()} if lessons.spread else None
    learners = fit_together(students, training.images, configs, views=lessons.views, targets=lessons, spread=costs, **training.fitting(tracker))
    sealed: dict[str, Artifact] = {}
    failures: dict[str, Exception] = {}
    with distributed.on_its_own() if lessons.spread else nullcontext():
        for learner in learners.values():
            if learner.failure:
                failures[learner.name] = learner.failure
            elif learner.name in training.job.outputs:
                sealed |= training.seal(learner, "student encoder", classes=labels.classes)
    return _of_all_ranks(training.job, sealed, failures) if lessons.spread else (sealed, failures)


def _teacher_artifact(job: Job, stage: Distill) -> Checkpoint | None:
    if stage.teacher is None:
        return None
    artifact = read(job.folder(job.inputs[stage.teacher]))
    assert isinstance(artifact, Checkpoint)
    return artifact


def _asked_for(stage: Distill, outputs: Mapping[str, Any], teacher: Checkpoint | None) -> tuple[dict[str, StudentConfig], dict[str, Pretrain]]:
    """Those that learn together, by output, and the baselines that are pretrained, by output.

    Peers that are made already learn along with those that learn from them, and are not handed over again.
    """
    together, pretrained = {}, {}
    needed = {*outputs, *(peer for asked in outputs if asked in stage.students for peer in stage.beside(asked))}
    for output in (each for each in stage.outputs if each in needed):
        name = output if output in stage.students else output.removesuffix(ALONE)
        student = stage.students[name] if output == name else by_labels(stage, name)
        if student is None:
            pretrained[output] = alone.by_pretraining(stage, name, teacher)
        else:
            together[output] = student
    return together, pretrained


def _outline(encoder: Encoder) -> TimmEncoder:
    """An encoder without memory for its weights."""
    with torch.device("meta"):
        return TimmEncoder(encoder)


def _of_all_ranks(job: Job, sealed: dict[str, Artifact], failures: dict[str, Exception]) -> tuple[dict[str, Artifact], dict[str, Exception]]:
    """What every rank has sealed, on the main one, and what failed, on all of them."""
    everyone = distributed.each((list(sealed), {name: (isinstance(error, UserError), str(error)) for name, error in failures.items()}))
    outputs = [output for made, _ in everyone for output in made] if distributed.is_main() else []
    failed = {name: UserError(text) if mendable else RuntimeError(text) for _, each in everyone for name, (mendable, text) in each.items()}
    return {output: read(job.folder(job.outputs[output])) for output in job.outputs if output in outputs}, {**failed, **failures}


def _wants_heads(students: Mapping[str, StudentConfig]) -> bool:
    return any(OBJECTIVES[type(method)].heads for student in students.values() for method in student.methods)


def _student(
    training: Training, output: str, config: StudentConfig, teacher: Shapes | None, heads: nn.Module | None, labels: Labels, tracker: Tracker
) -> Student:
    stage = training.stage
    assert isinstance(stage, Distill)
    name = next(name for name in stage.students if output in (name, name + ALONE))
    torch.manual_seed(seed_of(stage.seed, "weights", name))
    encoder = TimmEncoder(config.encoder)
    if note := starts.begin(encoder, config, name, training.job):
        tracker.note(note)
    head = classifier_head(encoder.dim, len(labels.classes)) if any(method.of_scores for method in config.methods) else None
    taps = [tap.student for method in config.methods for tap in method.taps]
    try:
        network = Network(encoder, head, taps, places=wants_places(config.methods))
        setting = Setting(network.shapes(), teacher, network, len(training.images), tuple(labels.classes), heads)
        return Student(config, stage.views, network, [build(method, setting) for method in config.methods])
    except UserError as error:
        raise UserError(f"students.{name}: {error}") from error


def _introduce(students: Mapping[str, Student]) -> None:
    """Let the objectives of one kind know the other students that have them."""
    for name, student in students.items():
        for objective in student.each():
            others = {n: s.network for n, s in students.items() if n != name and any(type(o) is type(objective) for o in s.each())}
            objective.meet(others)


def _pretrain_alone(config: Pretrain, output: str, training: Training, tracker: Tracker) -> dict[str, Artifact]:
    """Train the baseline of a student that learns no class scores, and seal it."""
    name = output.removesuffix(ALONE)
    torch.manual_seed(seed_of(config.seed, "weights", name))
    encoder = TimmEncoder(config.encoder)
    if config.init_from:
        tracker.note(f"{output} {start_from(encoder, config.init_from, training.job, f'students.{name}.init_from')}")
    learner = fit(methods.build(config.method, encoder, images=len(training.images)), training.images, config.train, name=output, **training.fitting(tracker))
    return training.seal(learner, config.method.exports)


def _raise_failures(failures: Mapping[str, Exception]) -> None:
    """Raise one error that names all failed students; one that a retry may mend where it may mend any of them."""
    if not failures:
        return
    message = "; ".join(f"student '{name}' failed: {str(error).removeprefix(f'{name}: ')}" for name, error in failures.items())
    passing = [error for error in failures.values() if not isinstance(error, UserError)]
    if passing:
        raise RuntimeError(message) from passing[0]
    raise UserError(message) from next(iter(failures.values()))
