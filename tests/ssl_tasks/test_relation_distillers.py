"""RKD, SEED, CompRess and ISD as objectives: what an image is compared with, what moves, and when; and all of them, with CRD, in a stage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_steps import few_steps
from formulas import unit
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import BATCH, CLASSES, ENCODERS, Case, lesson, teacher
from test_distill import CONV, NARROW, TRAIN, job, teach
from test_distill import workspace as workspace  # a fixture
from test_relation_losses import angles_by_formula, distances_by_formula, divergence_by_formula, seed_by_formula
from tiny_training import Recorder, ranks
from torch import Tensor

from schemas.distillers import CRD, ISD, RKD, SEED, CompRess
from schemas.stages import Distill
from schemas.students import Student as StudentConfig
from schemas.views import Views
from ssl_tasks import distributed
from ssl_tasks.distill import distill
from ssl_tasks.distill.objective import Lesson
from ssl_tasks.distill.student import Student

QUEUED: dict[str, Any] = {
    "seed": SEED(queue=24, hidden=16),
    "compress": CompRess(queue=24, momentum=0.5),
    "compress, one queue": CompRess(queue=24, queues=1),
    "isd": ISD(queue=24, momentum=0.5, hidden=16),
}
queued = pytest.mark.parametrize("config", QUEUED.values(), ids=QUEUED)
ALL = QUEUED | {"rkd": RKD(), "crd": CRD(dim=8, negatives=10), "crd, other classes": CRD(dim=8, negatives=10, other_classes=True)}
IMAGES = 4 * BATCH
"""What CRD's banks have rows for."""


def made(config: Any, encoder: str = "vit") -> tuple[Student, Any]:
    """A student in float64 and its only objective."""
    student = Case(config, ENCODERS[encoder]).make().double()
    assert isinstance(student, Student)
    return student, student.each()[0]


def views(count: int = 2, seed: int = 0, images: int = BATCH) -> list[Tensor]:
    return list(torch.randn(count, images, 1, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def taught(seen: list[Tensor], **changes: Any) -> Lesson:
    """A lesson whose views are all global ones."""
    said = Lesson(teacher(torch.float64)(seen), seen, len(seen), torch.arange(BATCH), torch.arange(BATCH) % CLASSES, samples=BATCH)
    return replace(said, **changes)


def apart(average: Any) -> None:
    """Move a moving average away from the student."""
    with torch.no_grad():
        for i, p in enumerate(average.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=p.dtype))


def loss(student: Student, seen: list[Tensor], **changes: Any) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = student(seen, taught(seen, **changes), 0.5)
    return terms


def backward(terms: dict[str, Tensor]) -> None:
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # of torch


# RKD


def test_rkd_weighs_distances_and_angles_and_leaves_out_what_weighs_nothing() -> None:
    student, _ = made(RKD(distance=3, angle=5))
    (seen,) = views(1)
    ours, theirs = student.network([seen]).pooled.detach().numpy(), teacher(torch.float64)([seen]).pooled.numpy()
    terms = loss(student, [seen])
    assert_allclose(terms["rkd_distance"].detach(), 3 * distances_by_formula(ours, theirs), rtol=1e-9)
    assert_allclose(terms["rkd_angle"].detach(), 5 * angles_by_formula(ours, theirs), rtol=1e-9)
    assert list(loss(made(RKD(distance=0))[0], [seen])) == ["rkd_angle"]
    assert list(loss(made(RKD(angle=0))[0], [seen])) == ["rkd_distance"]


def test_rkd_without_any_weight_is_refused() -> None:
    with pytest.raises(ValidationError, match="distance and angle are both 0: nothing is left to learn from"):
        RKD(distance=0, angle=0)


def test_rkd_of_several_views_is_the_mean_of_each_views_own() -> None:
    student, _ = made(RKD())
    first, second = views(2)
    each = [loss(student, [view]) for view in (first, second)]
    for name, term in loss(student, [first, second]).items():
        assert_allclose(term.detach(), np.mean([one[name].item() for one in each]), rtol=1e-9)


# Queues


@queued
def test_an_image_is_compared_with_earlier_ones_and_comes_in_after_the_step(config: Any) -> None:
    student, objective = made(config)
    before = objective.queue.rows.clone()
    terms = loss(student, views(2))
    assert torch.equal(objective.queue.rows, before)
    student.after_step(0.5)
    assert int(objective.queue.pushed) == 2 * BATCH
    assert not any(torch.equal(a, b) for a, b in zip(objective.queue.rows, before, strict=True))
    for name, term in loss(student, views(2)).items():
        assert abs(term - terms[name]) > 1e-3, "now they stand among those compared with"


@queued
def test_what_is_looked_at_in_eval_mode_does_not_come_in(config: Any) -> None:
    student, objective = made(config)
    loss(student.eval(), views(2))
    student.after_step(0.5)
    assert int(objective.queue.pushed) == 0


@queued
def test_a_forward_that_is_thrown_away_leaves_nothing(config: Any) -> None:
    student, objective = made(config)
    loss(student, views(2, seed=1))
    loss(student, views(2))
    student.after_step(0.5)
    student.after_step(0.5)
    assert int(objective.queue.pushed) == 2 * BATCH


def test_seed_compares_with_the_queue_and_the_images_own_embedding() -> None:
    student, objective = made(SEED(queue=24, hidden=16, temperature=0.3, teacher_temperature=0.05))
    seen = views(2)
    said = objective.projection(student.network(seen).pooled)
    theirs = teacher(torch.float64)(seen).pooled
    expected = seed_by_formula(said, theirs, objective.queue.rows, 0.3, 0.05)
    assert_allclose(loss(student, seen)["seed"].detach(), expected, rtol=1e-9)
    student.after_step(0.5)
    newest = objective.queue.rows[torch.arange(8, 2 * BATCH) % 24]
    assert_allclose(newest, unit(theirs)[8:], rtol=1e-9)


def test_compress_compares_each_network_with_its_own_anchors() -> None:
    student, objective = made(CompRess(queue=24, momentum=1.0))
    apart(objective.key_network)
    (seen,) = views(1)
    ours, theirs = student.network([seen]).pooled, teacher(torch.float64)([seen]).pooled
    expected = divergence_by_formula(ours, objective.own_queue.rows, theirs, objective.queue.rows, 0.04)
    assert_allclose(loss(student, [seen])["compress"].detach(), expected, rtol=1e-9)
    student.after_step(0.5)
    assert_allclose(objective.queue.rows[:BATCH], unit(theirs), rtol=1e-9)
    assert_allclose(objective.own_queue.rows[:BATCH], unit(objective.key_network([seen]).pooled), rtol=1e-9)


def test_compress_with_one_queue_compares_both_with_the_teachers_anchors() -> None:
    student, objective = made(CompRess(queue=24, queues=1))
    (seen,) = views(1)
    ours, theirs, anchors = objective.projection(student.network([seen]).pooled), teacher(torch.float64)([seen]).pooled, objective.queue.rows
    assert_allclose(loss(student, [seen])["compress"].detach(), divergence_by_formula(ours, anchors, theirs, anchors, 0.04), rtol=1e-9)
    assert objective.key_network is None


def test_compress_with_one_queue_projects_only_between_dimensions_that_differ() -> None:
    same = ENCODERS["vit"].model_copy(update={"width": 24})
    for encoder, count in ((ENCODERS["vit"], 2), (same, 0)):
        student = Case(CompRess(queue=24, queues=1), encoder).make()
        assert isinstance(student, Student)
        assert len(list(student.each()[0].parameters())) == count


def test_isd_predicts_what_the_average_says_of_the_next_view() -> None:
    student, objective = made(ISD(queue=24, hidden=16, momentum=1.0))
    apart(objective.key_network)
    first, second, third = seen = views(3)
    said, keys = objective.predictor(student.network(seen).pooled), objective.key_network([second, third, first]).pooled
    rows = objective.queue.rows
    assert_allclose(loss(student, seen, teacher=None)["isd"].detach(), divergence_by_formula(said, rows, keys, rows, 0.02), rtol=1e-9)


def test_isd_of_one_view_is_refused() -> None:
    students = {"small": StudentConfig(**CONV.model_dump())}
    with pytest.raises(ValidationError, match=r"isd compares two views of an image: set views\.count to 2"):
        Distill(dataset="data", method=ISD(), students=students)
    Distill(dataset="data", method=ISD(), students=students, views=Views(count=2))


@pytest.mark.parametrize("config", [QUEUED["compress"], QUEUED["isd"]], ids=["compress", "isd"])
def test_the_moving_average_follows_the_student_as_its_momentum_says_and_gets_no_gradient(config: Any) -> None:
    student, objective = made(config)
    backward(loss(student, views(2)))
    average = list(objective.key_network.network.parameters())
    assert all(p.grad is None and not p.requires_grad for p in average)
    before = [p.clone() for p in average]
    torch.optim.SGD([p for p in student.parameters() if p.requires_grad], 0.1).step()
    student.after_step(0.5)
    for now, old, ours in zip(average, before, student.network.parameters(), strict=True):
        torch.testing.assert_close(now, (old + ours) / 2)


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_no_gradient_reaches_what_the_teacher_says(config: Any) -> None:
    student, _ = made(config)
    backward(loss(student, views(2)))
    assert any(p.grad is not None and p.grad.any() for p in student.network.parameters())
    assert all(p.grad is None for p in teacher(torch.float64).parameters())


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_terms_are_computed_in_float32_under_mixed_precision(config: Any, encoder: str) -> None:
    student = Case(config, ENCODERS[encoder]).make()
    assert isinstance(student, Student)
    seen = [view.float() for view in views(2)]
    with torch.autocast("cpu", torch.bfloat16):
        said = teacher(torch.float32)(seen)
        terms = student(seen, replace(lesson(student, seen), teacher=said, globals=2), 0.5)
    backward(terms)
    student.after_step(0.5)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    assert all(value.isfinite().all() for value in student.state_dict().values())


# A stage


def test_students_of_relations_are_trained_side_by_side_and_sealed(workspace: Path) -> None:
    teach(workspace)
    methods = {"rkd": RKD(), "seed": SEED(queue=32), "compress": CompRess(queue=32), "crd": CRD(other_classes=True), "sum": [RKD(weight=0.5), CRD(weight=0.8)]}
    students = {name: StudentConfig(**NARROW.model_dump(), method=method) for name, method in methods.items()}
    stage = Distill(dataset="data", teacher="teacher", students=students, views=Views(count=1, blur=0), train=TRAIN.model_copy(update={"epochs": 1.0}), seed=5)
    tracker = Recorder()
    sealed = distill(job(workspace, "students", stage, {"data": "data", "teacher": "teacher"}, {name: name for name in students}), tracker)
    assert set(sealed) == set(students)
    named = {name for _, values in tracker.points for name in values}
    assert {"sum/train/rkd_angle", "sum/train/crd_student", "crd/train/crd_teacher", "seed/train/loss"} <= named


def test_isd_needs_no_teacher(workspace: Path) -> None:
    students = {"alone": StudentConfig(**NARROW.model_dump(), method=ISD(queue=32))}
    stage = Distill(dataset="data", students=students, views=Views(count=2, blur=0), train=TRAIN.model_copy(update={"epochs": 1.0}), seed=5)
    assert set(distill(job(workspace, "students", stage, {"data": "data"}, {"alone": "alone"}), Recorder())) == {"alone"}


VARIANTS = {
    f"{name}, {title}": Case(ALL[name].model_copy(update=changes), encoder)
    for name, changes in {"compress, one queue": {}, "crd, other classes": {}, "crd": {"negatives": IMAGES}}.items()
    for title, encoder in ENCODERS.items()
}


def _few_steps_of_variants(folder: Path) -> None:
    distributed.start()
    torch.save({name: few_steps(case) for name, case in VARIANTS.items()}, folder / f"{distributed.rank()}.pt")


@pytest.mark.slow
def test_two_processes_train_as_one_in_what_is_not_the_default_too(tmp_path: Path) -> None:
    ranks(2, _few_steps_of_variants, tmp_path)
    for name, case in VARIANTS.items():
        alone = few_steps(case)
        for rank in (0, 1):
            torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt")[name], alone, rtol=1e-8, atol=1e-8)
