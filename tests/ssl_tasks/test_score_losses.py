"""Losses on class scores against the papers' formulas in float64 NumPy, and against figures worked out elsewhere."""

import math

import numpy as np
import pytest
import torch
from formulas import Matrix, double, softmax, two
from numpy.testing import assert_allclose
from torch import Tensor

from ssl_tasks.losses.scores import (
    cross_entropy,
    decoupled,
    divergence,
    divergence_from,
    half_squared_distance,
    others_permuted,
    soft_cross_entropy,
    softened_cross_entropy,
    virtual_teacher,
)

LABELS = torch.tensor([2, -1, 0, 4, -1, 2])
KNOWN = [0, 2, 3, 5]
STUDENT, TEACHER = two(6, 5)
FEW, LITTLE, NOTHING = double([[2, 2, 1]]), double([[4, 2, 1]]), double([[0, 0, 0]])


def kl(teacher: Matrix, student: Matrix) -> float:
    """A mean over samples of the sum over classes."""
    return float(np.mean([sum(p * math.log(p / q) for p, q in zip(*rows, strict=True) if p) for rows in zip(teacher, student, strict=True)]))


def gradient(loss: Tensor, logits: Tensor) -> Matrix:
    (found,) = torch.autograd.grad(loss, logits)
    return np.asarray(found)


# Labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_is_a_mean_over_labelled_samples_of_smoothed_labels(smoothing: float) -> None:
    """Section 7 of https://arxiv.org/abs/1512.00567: q(k) = (1 - e) [k = y] + e / K."""
    logs = np.log(softmax(STUDENT.numpy()))
    each = [-sum(((1 - smoothing) * (k == LABELS[i]).item() + smoothing / 5) * logs[i, k] for k in range(5)) for i in KNOWN]
    assert_allclose(cross_entropy(STUDENT, LABELS, smoothing), np.mean(each), rtol=1e-12)


def test_a_batch_without_labels_has_neither_loss_nor_gradient() -> None:
    logits = STUDENT.clone().requires_grad_()
    loss = cross_entropy(logits, torch.full((6,), -1))
    assert loss.item() == 0
    assert not gradient(loss, logits).any()
    target, others = decoupled(logits, TEACHER, torch.full((6,), -1), 4.0)
    assert target.item() == others.item() == 0


def test_shares_of_a_batch_average_to_the_whole_batch() -> None:
    """One of them has three of the four labels: a mean of its own would count them for too little."""
    shares = [slice(0, 4), slice(4, 6)]
    count = torch.tensor(len(KNOWN) / 2)
    parts = [cross_entropy(STUDENT[own], LABELS[own], count=count) for own in shares]
    assert_allclose(torch.stack(parts).mean(), cross_entropy(STUDENT, LABELS), rtol=1e-12)
    own_means = torch.stack([cross_entropy(STUDENT[own], LABELS[own]) for own in shares]).mean()
    assert abs(own_means - cross_entropy(STUDENT, LABELS)) > 0.01
    halves = [torch.stack(decoupled(STUDENT[own], TEACHER[own], LABELS[own], 4.0, count)) for own in shares]
    assert_allclose(torch.stack(halves).mean(dim=0), torch.stack(decoupled(STUDENT, TEACHER, LABELS, 4.0)), rtol=1e-12)


def test_samples_may_weigh_more_by_the_teachers_confidence() -> None:
    weights = TEACHER.softmax(dim=1).amax(dim=1)
    logs = np.log(softmax(STUDENT.numpy()))
    expected = -sum(weights[i].item() * logs[i, LABELS[i]] for i in KNOWN) / sum(weights[i].item() for i in KNOWN)
    assert_allclose(cross_entropy(STUDENT, LABELS, weights_B=weights), expected, rtol=1e-12)


# Hinton


@pytest.mark.parametrize(("temperature", "expected"), [(1, 0.379738), (2, 0.122183), (4, 0.030694)])
def test_the_divergence_of_three_logits(temperature: float, expected: float) -> None:
    assert_allclose(divergence(FEW, LITTLE, temperature) / temperature**2, expected, atol=5e-7)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_divergence_is_t_squared_times_a_sum_over_classes(temperature: float) -> None:
    expected = temperature**2 * kl(softmax(TEACHER.numpy() / temperature), softmax(STUDENT.numpy() / temperature))
    assert_allclose(divergence(STUDENT, TEACHER, temperature), expected, rtol=1e-10)
    entropy = -np.mean(np.sum(softmax(TEACHER.numpy() / temperature) * np.log(softmax(TEACHER.numpy() / temperature)), axis=1))
    assert_allclose(softened_cross_entropy(STUDENT, TEACHER, temperature), expected + temperature**2 * entropy, rtol=1e-10)


def test_peers_that_agree_teach_each_other_nothing() -> None:
    logits = STUDENT.clone().requires_grad_()
    loss = divergence(logits, STUDENT)
    assert_allclose(loss.item(), 0, atol=1e-15)
    assert_allclose(gradient(loss, logits), 0, atol=1e-15)


def test_at_high_temperature_the_gradient_is_that_of_logits_of_mean_zero() -> None:
    """(student - teacher) / classes; with T^2 it keeps its size, and comes nearer as T rises."""
    student, teacher = (logits - logits.mean(dim=1, keepdim=True) for logits in two(1, 10))
    limit = ((student - teacher) / 10).numpy()
    errors = []
    for temperature in (1, 5, 20, 100, 1000):
        logits = student.clone().requires_grad_()
        found = gradient(divergence(logits, teacher, temperature), logits)
        errors.append(float(np.linalg.norm(found - limit) / np.linalg.norm(limit)))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert_allclose(errors[3:], [errors[2] / 5, errors[2] / 50], rtol=0.2)  # the error falls as 1 / T
    assert errors[4] < 1e-3


# Regressions


def test_half_the_squared_distance_is_a_sum_over_classes() -> None:
    expected = np.mean([np.linalg.norm(s - t) ** 2 / 2 for s, t in zip(STUDENT.numpy(), TEACHER.numpy(), strict=True)])
    assert_allclose(half_squared_distance(STUDENT, TEACHER), expected, rtol=1e-12)


def test_probabilities_saturate_and_logits_do_not() -> None:
    """A teacher that is sure of one of two classes, a student that is sure of the other."""
    teacher, student = double([[12, 0]]), double([[0, 12]]).requires_grad_()
    probabilities = gradient(half_squared_distance(student.softmax(dim=1), teacher.softmax(dim=1)), student)
    assert_allclose(np.abs(probabilities).max(), 1.2e-5, rtol=0.05)
    assert_allclose(np.abs(gradient(half_squared_distance(student, teacher), student)).max(), 12)
    assert_allclose(np.abs(gradient(divergence(student, teacher), student)).max(), 0.99999, atol=5e-6)


# DKD


def decoupled_by_formula(student: Matrix, teacher: Matrix, label: int, temperature: float) -> tuple[float, float, float]:
    """Section 3.1 of https://arxiv.org/abs/2203.08679 for one sample: TCKD, NCKD without T^2, and the teacher's probability of the label."""
    p, q = (softmax(logits / temperature) for logits in (teacher, student))
    others = [k for k in range(len(p)) if k != label]
    binary = sum(a * math.log(a / b) for a, b in ((p[label], q[label]), (sum(p[others]), sum(q[others]))))
    among = sum(p[k] / sum(p[others]) * math.log(p[k] / sum(p[others]) / (q[k] / sum(q[others]))) for k in others)
    return binary, among, p[label]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_decoupled_is_the_papers_and_leaves_out_who_has_no_label(temperature: float) -> None:
    parts = np.array([decoupled_by_formula(STUDENT[i].numpy(), TEACHER[i].numpy(), int(LABELS[i]), temperature)[:2] for i in KNOWN])
    target, others = decoupled(STUDENT, TEACHER, LABELS, temperature)
    assert_allclose([target.item(), others.item()], temperature**2 * parts.mean(axis=0), rtol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_whole_divergence_is_the_first_part_and_the_second_less_the_more_the_teacher_is_sure(temperature: float) -> None:
    for i in KNOWN:
        row, label = slice(i, i + 1), LABELS[i : i + 1]
        target, others = decoupled(STUDENT[row], TEACHER[row], label, temperature)
        sure = (TEACHER[i] / temperature).softmax(dim=0)[label]
        assert_allclose(divergence(STUDENT[row], TEACHER[row], temperature), (target + (1 - sure) * others).item(), rtol=1e-10)


def test_the_second_part_stays_when_the_teacher_is_sure() -> None:
    """Of a teacher that gives .999 to the label, Hinton's divergence teaches a thousandth of what it knows of the others."""
    teacher = double([[math.log(0.999), math.log(0.0007), math.log(0.0003)]])
    student = double([[math.log(0.999), math.log(0.0005), math.log(0.0005)]])
    target, others = decoupled(student, teacher, torch.tensor([0]), 1.0)
    assert_allclose(others.item(), 0.7 * math.log(1.4) + 0.3 * math.log(0.6), rtol=1e-9)
    assert_allclose(target.item(), 0, atol=1e-12)
    assert_allclose(divergence(student, teacher).item(), 0.001 * others.item(), rtol=1e-9)


def test_a_class_that_is_nearly_impossible_does_no_harm() -> None:
    student, teacher = double([[200, 0, -200]]).requires_grad_(), double([[-200, 0, 200]])
    loss = torch.stack(decoupled(student, teacher, torch.tensor([0]), 1.0)).sum()
    assert loss.isfinite()
    assert np.isfinite(gradient(loss, student)).all()


# Teachers made by hand


def test_the_teacher_made_by_hand_takes_the_softmax_of_probabilities() -> None:
    """As the authors' code: .99 for the label, .01 / (C - 1) for the others, over T, exponentiated."""
    said = virtual_teacher(LABELS, 5, 0.99, 20.0).numpy()
    for i in KNOWN:
        powers = [math.exp((0.99 if k == LABELS[i] else 0.01 / 4) / 20) for k in range(5)]
        assert_allclose(said[i], np.array(powers) / sum(powers), rtol=1e-6)
    assert not said[[1, 4]].any()
    assert 1.04 < said[0].max() / said[0].min() < 1.06, "at T = 20 it is nearly even"


def test_the_divergence_from_probabilities_passes_over_samples_that_have_none() -> None:
    targets = softmax(TEACHER.numpy()) * (LABELS.numpy() >= 0)[:, None]
    expected = kl(softmax(TEACHER.numpy())[KNOWN], softmax(STUDENT.numpy())[KNOWN])
    count = torch.tensor(float(len(KNOWN)))
    assert_allclose(divergence_from(torch.from_numpy(targets), STUDENT, count), expected, rtol=1e-12)
    crossed = -np.mean(np.sum(softmax(TEACHER.numpy()) * np.log(softmax(STUDENT.numpy())), axis=1)[KNOWN])
    assert_allclose(soft_cross_entropy(STUDENT, torch.from_numpy(targets), count), crossed, rtol=1e-12)


def test_a_hard_target_among_soft_ones_has_no_entropy() -> None:
    target = double([[0, 1, 0]])
    assert_allclose(divergence_from(target, FEW), -math.log(softmax(FEW.numpy())[0, 1]), rtol=1e-12)


def test_all_but_the_largest_probability_change_places() -> None:
    said = double([[0.1, 0.6, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
    moved = others_permuted(said, torch.tensor([[1, 2, 0], [2, 0, 1]]))
    assert moved.tolist() == [[0.2, 0.6, 0.1, 0.1], [0.4, 0.1, 0.3, 0.2]]
