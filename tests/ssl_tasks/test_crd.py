"""CRD as an objective: which negatives an image is held against, its banks of every image, and its normaliser."""

from typing import Any

import numpy as np
import pytest
import torch
from formulas import unit
from numpy.testing import assert_allclose
from small_methods import BATCH, teacher
from test_relation_distillers import IMAGES, loss, made, taught, views
from test_relation_losses import crd_by_formula
from torch import Tensor
from torch.nn.functional import normalize

from schemas.distillers import CRD
from schemas.errors import UserError
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import build


def negatives(objective: Any, rows: Tensor, labels: Tensor, classes: Tensor, **changes: Any) -> Tensor:
    drawn: Tensor = objective.negatives(Lesson(None, [rows], 1, rows, labels, **changes), classes)
    return drawn


def test_negatives_are_drawn_evenly_from_all_images_but_the_image_itself() -> None:
    _, objective = made(CRD(dim=8, negatives=60))
    rows, unknown = torch.arange(IMAGES), torch.full((IMAGES,), -1)
    found = torch.cat([negatives(objective, rows, unknown, objective.classes, seed=seed) for seed in range(50)], dim=1)
    assert found.shape == (IMAGES, 3000)
    assert not (found == rows[:, None]).any()
    counts = torch.stack([one.bincount(minlength=IMAGES) for one in found])
    assert (counts.diagonal() == 0).all()
    others = counts[~torch.eye(IMAGES, dtype=torch.bool)].double()
    assert_allclose(others.mean(), 3000 / (IMAGES - 1))
    assert_allclose(others.var(), 3000 / (IMAGES - 1), rtol=0.1)  # Poisson's


def test_where_there_are_no_more_others_than_negatives_each_is_one() -> None:
    _, objective = made(CRD(dim=8, negatives=IMAGES - 1))
    rows = torch.tensor([0, 7, IMAGES - 1])
    for row, found in zip(rows.tolist(), negatives(objective, rows, rows, objective.classes), strict=True):
        assert sorted([row, *found.tolist()]) == list(range(IMAGES))


def test_negatives_of_other_classes_are_of_other_classes_or_of_one_that_is_not_known() -> None:
    _, objective = made(CRD(dim=8, negatives=60, other_classes=True))
    classes = torch.arange(IMAGES) % 3 - 1  # every third is not known
    rows = torch.arange(IMAGES)
    found = torch.cat([negatives(objective, rows, classes, classes, seed=seed) for seed in range(20)], dim=1)
    for row, drawn in zip(rows.tolist(), found, strict=True):
        mine = int(classes[row])
        allowed = set(range(IMAGES)) - ({row} if mine == -1 else set(rows[classes == mine].tolist()))
        assert set(drawn.tolist()) == allowed


def test_processes_draw_the_negatives_that_one_would() -> None:
    _, objective = made(CRD(dim=8, negatives=10))
    rows = torch.arange(BATCH)
    whole = negatives(objective, rows, rows, objective.classes, samples=BATCH)
    parts = [negatives(objective, rows[own], rows[own], objective.classes, samples=BATCH, own=own) for own in (slice(0, 8), slice(8, 16))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(negatives(objective, rows, rows, objective.classes, samples=BATCH, seed=1), whole)


def test_classes_are_known_once_their_images_were_in_a_batch() -> None:
    student, objective = made(CRD(dim=8, negatives=10, other_classes=True))
    rows = torch.arange(3, 3 + BATCH)
    labels = torch.tensor([2, -1] * (BATCH // 2))
    loss(student.eval(), views(1), rows=rows, labels=labels)
    assert (objective.classes == -1).all()
    loss(student.train(), views(1), rows=rows, labels=labels)
    assert objective.classes[3 : 3 + BATCH].tolist() == labels.tolist()
    assert (objective.classes[3 + BATCH :] == -1).all()


def test_crd_of_other_classes_needs_two_of_them() -> None:
    network = teacher(torch.float32)
    shapes = network.shapes()
    with pytest.raises(UserError, match=r"crd\.other_classes draws from other classes, and all labelled images are of one: leave it out"):
        build(CRD(other_classes=True), Setting(shapes, shapes, network, IMAGES, ("cat",)))


@pytest.mark.parametrize("count", [1, 2], ids=["one view", "two views"])
def test_crd_is_the_papers_equation_over_rows_of_the_other_networks_bank(count: int) -> None:
    student, objective = made(CRD(dim=8, negatives=10, temperature=0.2))
    seen, rows = views(count), torch.arange(5, 5 + BATCH)
    said = taught(seen, rows=rows)
    drawn = torch.cat([rows[:, None], objective.negatives(said, objective.classes)], dim=1).repeat(count, 1)
    ours, theirs = unit(objective.student_layer(student.network(seen).pooled)), unit(objective.teacher_layer(teacher(torch.float64)(seen).pooled))
    terms = student(seen, said, 0.5)
    for i, (name, anchors, bank) in enumerate((("crd_student", ours, objective.teacher_bank), ("crd_teacher", theirs, objective.student_bank))):
        logits = np.einsum("bd,bkd->bk", anchors, bank.rows[drawn].numpy()) / 0.2
        z = IMAGES * np.exp(logits).mean()
        assert_allclose(terms[name].detach(), crd_by_formula(logits, z, IMAGES), rtol=1e-9)
        assert_allclose(objective.normalisers[i], z, rtol=1e-9)


def test_the_normaliser_is_that_of_the_first_batch_for_good() -> None:
    student, objective = made(CRD(dim=8, negatives=10))
    loss(student.eval(), views(1))
    assert not objective.normalisers.any(), "looking fixes nothing"
    loss(student.train(), views(1))
    first = objective.normalisers.clone()
    loss(student, views(1, seed=1))
    assert (first > 0).all()
    assert torch.equal(objective.normalisers, first)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_a_batchs_rows_of_the_banks_move_as_the_momentum_says_and_no_others(momentum: float) -> None:
    student, objective = made(CRD(dim=8, negatives=10, momentum=momentum))
    seen, rows = views(2), torch.arange(5, 5 + BATCH)
    said = taught(seen, rows=rows)
    banks = objective.student_bank, objective.teacher_bank
    before = [bank.rows.clone() for bank in banks]
    ours, theirs = objective.student_layer(student.network(seen).pooled), objective.teacher_layer(teacher(torch.float64)(seen).pooled)
    student(seen, said, 0.5)
    assert all(torch.equal(bank.rows, old) for bank, old in zip(banks, before, strict=True)), "not before the step"
    student.after_step(0.5)
    for bank, old, now in zip(banks, before, (ours, theirs), strict=True):
        mean = unit(now).reshape(2, BATCH, 8).mean(axis=0)
        moved = momentum * old[rows] + (1 - momentum) * torch.from_numpy(mean)
        torch.testing.assert_close(bank.rows[rows], normalize(moved, dim=1))
        still = torch.ones(IMAGES, dtype=torch.bool).index_fill(0, rows, False)
        assert torch.equal(bank.rows[still], old[still])


def test_similarities_to_a_bank_are_the_same_however_few_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    _, objective = made(CRD(dim=8, negatives=10))
    bank, anchors = objective.teacher_bank, normalize(torch.randn(5, 8, dtype=torch.float64), dim=1)
    drawn = torch.randint(0, IMAGES, (5, 7))
    whole = bank.similarities(anchors, drawn)
    monkeypatch.setattr("ssl_tasks.nn.bank.NUMBERS", 2 * IMAGES)
    torch.testing.assert_close(bank.similarities(anchors, drawn), whole)
    assert_allclose(whole, np.einsum("bd,bkd->bk", anchors, bank.rows[drawn]), rtol=1e-12)
