"""The losses of relations against the papers' formulas in float64 NumPy, written pair by pair and triple by triple."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, double, random, softmax, two, unit
from numpy.testing import assert_allclose
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_tasks.losses import relations
from ssl_tasks.losses.relations import angles, noise_contrastive, relative_distances, similarity_cross_entropy, similarity_divergence


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # of torch


def whole(student: Tensor, teacher: Tensor) -> Tensor:
    """The angle-wise loss with every image as vertex."""
    return angles(student, teacher, torch.arange(len(student)))


def huber(x: float, y: float) -> float:
    """Equation 5 of https://arxiv.org/abs/1904.05068"""
    return 0.5 * (x - y) ** 2 if abs(x - y) <= 1 else abs(x - y) - 0.5


def distances_by_formula(student: Matrix, teacher: Matrix) -> float:
    """Equations 4 to 6, a mean over all ordered pairs."""
    n = len(student)

    def potentials(x: Matrix) -> dict[tuple[int, int], float]:
        lengths = {(i, j): math.dist(x[i], x[j]) for i in range(n) for j in range(n)}
        mu = np.mean([length for (i, j), length in lengths.items() if i != j])
        return {pair: float(length / mu) for pair, length in lengths.items()}

    ours, theirs = potentials(student), potentials(teacher)
    return float(np.mean([huber(ours[pair], theirs[pair]) for pair in ours]))


def angles_by_formula(student: Matrix, teacher: Matrix) -> float:
    """Equations 7 and 8, over triples of different images, a mean over all there are."""
    n = len(student)

    def cosine(x: Matrix, i: int, j: int, k: int) -> float:
        a, b = x[i] - x[j], x[k] - x[j]
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    losses = [huber(cosine(student, i, j, k), cosine(teacher, i, j, k)) for i in range(n) for j in range(n) for k in range(n) if len({i, j, k}) == 3]
    return sum(losses) / n**3


RIGHT = double([[0, 0], [3, 0], [0, 4]])
"""A triangle with sides 3, 4 and 5."""
EVEN = double([[0, 0], [2, 0], [1, math.sqrt(3)]])
"""One with equal sides."""
rkd = pytest.mark.parametrize("loss", [relative_distances, whole], ids=["distances", "angles"])


# RKD


def test_distances_are_the_papers_equation_between_spaces_of_any_dimension() -> None:
    student, teacher = random(7, 5), random(7, 3)
    assert_allclose(relative_distances(student, teacher), distances_by_formula(student.numpy(), teacher.numpy()), rtol=1e-12)
    far = student.clone()
    far[0] += 1000  # absolute differences above 1
    assert_allclose(relative_distances(far, teacher), distances_by_formula(far.numpy(), teacher.numpy()), rtol=1e-12)


def test_angles_are_the_papers_equation_between_spaces_of_any_dimension() -> None:
    student, teacher = random(7, 5), random(7, 3)
    assert_allclose(whole(student, teacher), angles_by_formula(student.numpy(), teacher.numpy()), rtol=1e-12)


def test_relations_of_two_triangles() -> None:
    """Sides over their mean 0.75, 1, 1.25 against 1; cosines 0, 0.6, 0.8 against 0.5."""
    assert_allclose(relative_distances(RIGHT, EVEN), 4 * 0.5 * 0.25**2 / 9, rtol=1e-12)
    assert_allclose(whole(RIGHT, EVEN), 2 * 0.5 * (0.5**2 + 0.1**2 + 0.3**2) / 27, rtol=1e-12)


@rkd
def test_relations_do_not_change_when_a_space_is_moved_turned_mirrored_or_scaled(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student, teacher = two(6, 4)
    turn = torch.linalg.qr(random(4, 4)).Q
    for changed in (teacher + 3, teacher @ turn, -teacher, 17 * teacher):
        assert_allclose(loss(student, changed), loss(student, teacher), rtol=1e-10)
        assert_allclose(loss(changed, teacher), 0, atol=1e-12)
    assert loss(student, teacher) > 1e-3


@rkd
def test_relations_of_a_space_to_itself_cost_nothing(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = random(6, 4)
    assert loss(x, x) == 0


@rkd
def test_relations_follow_images_not_their_order(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student, teacher = two(6, 4)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert_allclose(loss(student[order], teacher[order]), loss(student, teacher), rtol=1e-12)
    assert abs(loss(student, teacher[order]) - loss(student, teacher)) > 1e-3


@rkd
@pytest.mark.parametrize("student", [torch.ones(5, 3), torch.tensor([[1.0, 2], [1, 2], [1, 2], [0, 0], [4, 1]])], ids=["all", "three"])
def test_equal_images_have_no_relation_and_no_wild_gradient(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor) -> None:
    student = student.clone().requires_grad_()
    value = loss(student, random(5, 4).float())
    backward(value)
    assert value.isfinite()
    assert value > 0
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 10


@rkd
def test_relations_of_close_images_far_from_the_origin_keep_their_digits(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Products of float32 numbers near 100 would leave nothing of differences near 0.01."""
    student, teacher = two(6, 4)
    moved = (100 + 0.01 * student).float()
    assert_allclose(loss(moved, teacher.float()), loss(moved.double() - 100, teacher), rtol=1e-4)


def test_parts_of_the_vertices_average_to_all() -> None:
    student, teacher = two(6, 4)
    parts = [angles(student, teacher, torch.arange(i, i + 2)) for i in (0, 2, 4)]
    assert_allclose(np.mean(parts), whole(student, teacher), rtol=1e-12)


def test_angles_are_the_same_however_few_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for numbers in (relations.NUMBERS, 1):
        monkeypatch.setattr(relations, "NUMBERS", numbers)
        student, teacher = two(6, 4)
        student.requires_grad_()
        loss = whole(student, teacher)
        backward(loss)
        assert student.grad is not None
        found.append((loss.detach(), student.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, *(t.numel() for t in (made if isinstance(made, list | tuple) else [made]) if isinstance(t, Tensor)), 0)
        return made


def test_angles_of_a_large_batch_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither made at a time, there and back, nor kept from there to back; 64 images of 48 dimensions have 64^3 angles between 64^2 x 48 numbers."""
    monkeypatch.setattr(relations, "NUMBERS", 30_000)
    student, teacher, kept = torch.randn(64, 48, requires_grad=True), torch.randn(64, 32), []
    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        backward(whole(student, teacher))
    assert 64 * 48 < largest.numbers <= 30_000
    assert max(kept) == student.numel(), "the embeddings themselves, and no rays or angles"


# SEED


def seed_by_formula(student: Tensor, teacher: Tensor, queue: Tensor, tau: float, tau_teacher: float) -> float:
    """Equations 3 to 5 of https://arxiv.org/abs/2101.04731, image by image."""
    losses = []
    for s, t in zip(unit(student), unit(teacher), strict=True):
        others = np.stack([t, *queue.numpy()])
        wanted, said = softmax(others @ t / tau_teacher), softmax(others @ s / tau)
        losses.append(-sum(p * np.log(q) for p, q in zip(wanted, said, strict=True)))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperatures", [(0.2, 0.01), (1.0, 0.5), (0.07, 0.07)])
def test_seed_is_the_papers_equation(temperatures: tuple[float, float]) -> None:
    (student, teacher), queue = two(5, 4), normalize(random(9, 4), dim=1)
    found = similarity_cross_entropy(student, teacher, queue, *temperatures)
    assert_allclose(found, seed_by_formula(student, teacher, queue, *temperatures), rtol=1e-12)


def test_seed_of_a_student_that_finds_all_alike_is_the_logarithm_of_all_there_are() -> None:
    """Of a queue of 65536 as for MoCo, ln 65537."""
    queue = normalize(torch.cat([random(65536, 2), torch.zeros(65536, 1)], dim=1), dim=1)
    across, teacher = double([[0, 0, 1]]), double([[1, 2, 0]])
    assert_allclose(similarity_cross_entropy(across, teacher, queue, 0.2, 0.01), 11.09037015, atol=1e-8)


@pytest.mark.parametrize(
    ("hard", "tau", "expected"),
    [
        (0.3, 0.1, 2.82691701e-3), (0.3, 0.07, 2.00451626e-4), (0.3, 0.2, 0.0697027995), (0.3, 1.0, 0.846302372),
        (0.85, 0.1, 0.474296168), (0.85, 0.07, 0.398475866), (0.85, 0.2, 0.588454882), (0.85, 1.0, 1.00555704),
    ],
)  # fmt: skip
def test_seed_under_a_teacher_that_is_sure_is_info_nce(hard: float, tau: float, expected: float) -> None:
    """Similarities 0.9 to its own, and 0.3 (or 0.85), 0.1 and -0.2 to three others."""
    similarities = double([0.9, hard, 0.1, -0.2])
    rows = torch.cat([similarities[:, None], (1 - similarities.square()).sqrt().diag()], dim=1)
    student = double([[1, 0, 0, 0, 0]])
    assert_allclose(similarity_cross_entropy(student, rows[:1], rows[1:], tau, 1e-3), expected, rtol=1e-6)


# CompRess and ISD


def divergence_by_formula(student: Tensor, anchors: Tensor, teacher: Tensor, teacher_anchors: Tensor, tau: float) -> float:
    """Equation 3 of https://arxiv.org/abs/2010.14713, image by image."""
    losses = []
    for s, t in zip(unit(student), unit(teacher), strict=True):
        said, wanted = softmax(anchors.numpy() @ s / tau), softmax(teacher_anchors.numpy() @ t / tau)
        losses.append(sum(p * np.log(p / q) for p, q in zip(wanted, said, strict=True)))
    return float(np.mean(losses))


@pytest.mark.parametrize("tau", [0.02, 0.04, 1.0])
def test_the_divergence_of_similarities_is_the_papers_equation_with_anchors_of_any_dimension(tau: float) -> None:
    student, teacher = random(5, 4), random(5, 3)
    anchors, teacher_anchors = normalize(random(9, 4), dim=1), normalize(random(9, 3), dim=1)
    found = similarity_divergence(student, anchors, teacher, teacher_anchors, tau)
    assert_allclose(found, divergence_by_formula(student, anchors, teacher, teacher_anchors, tau), rtol=1e-12)


def test_the_divergence_of_a_student_that_is_the_teacher_is_nothing() -> None:
    x, anchors = random(5, 4), normalize(random(9, 4), dim=1)
    assert_allclose(similarity_divergence(x, anchors, 3 * x, anchors, 0.04), 0, atol=1e-12)
    turn = torch.linalg.qr(random(4, 4)).Q
    assert_allclose(similarity_divergence(x @ turn, anchors @ turn, x, anchors, 0.04), 0, atol=1e-12)
    assert similarity_divergence(x @ turn, anchors, x, anchors, 0.04) > 1


def test_the_divergence_is_the_teachers_from_the_student_and_not_the_other_way_round() -> None:
    """A student that knows less than the teacher pays without end, one that knows more pays no more than ln 2."""
    anchors = double([[1, 0], [-1, 0]])
    sure, even = double([[1, 0]]), double([[0, 1]])
    assert_allclose(similarity_divergence(even, anchors, sure, anchors, 0.02), math.log(2), rtol=1e-12)
    assert_allclose(similarity_divergence(sure, anchors, even, anchors, 0.02), 50 - math.log(2), rtol=1e-12)


# CRD


def crd_by_formula(logits: Matrix, z: float, images: int) -> float:
    """-log h of the first column - sum of log(1 - h) of the others, h = q / (q + K / N), q = exp(logit) / Z."""
    k = logits.shape[1] - 1
    q = np.exp(logits) / z
    h = q / (q + k / images)
    return float(np.mean(-np.log(h[:, 0]) - np.log(1 - h[:, 1:]).sum(axis=1)))


def test_noise_contrastive_estimation_is_the_papers_equation() -> None:
    logits = 3 * random(5, 8)
    for z, images in ((1.0, 8), (40.0, 8), (7.0, 1000)):
        assert_allclose(noise_contrastive(logits, double(z), images), crd_by_formula(logits.numpy(), z, images), rtol=1e-10)


@pytest.mark.parametrize("k", [1, 20, 16384])
def test_where_nothing_is_known_an_image_and_its_negatives_are_told_apart_by_their_number_alone(k: int) -> None:
    """All q are 1 / N, so that h is 1 / (1 + K) for all: ln(1 + K) for the image itself and K ln((1 + K) / K), near 1, for the others."""
    images = 50000
    found = noise_contrastive(torch.full((3, k + 1), 2.0, dtype=torch.float64), double(images * math.exp(2.0)), images)
    assert_allclose(found, math.log(1 + k) + k * math.log((1 + k) / k), rtol=1e-10)


def test_a_pair_far_beyond_doubt_costs_nothing_and_one_far_from_it_no_infinity() -> None:
    right = torch.tensor([[200.0, -200, -200]])
    assert noise_contrastive(right, torch.tensor(1.0), 2) == 0
    assert_allclose(noise_contrastive(-right, torch.tensor(1.0), 2), 600)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, _: relative_distances(s, t),
        lambda s, t, _: whole(s, t),
        lambda s, t, queue: similarity_cross_entropy(s, t, queue, 0.2, 0.01),
        lambda s, t, queue: similarity_divergence(s, queue, t, queue, 0.04),
        lambda s, _, queue: noise_contrastive(s, queue[0, 0].abs(), 9),
    ],
    ids=["distances", "angles", "SEED", "CompRess", "CRD"],
)
def test_losses_of_half_precision_tensors_are_computed_in_float32(loss: Callable[[Tensor, Tensor, Tensor], Tensor], dtype: torch.dtype) -> None:
    tensors = [x.to(dtype) for x in (*two(4, 6), normalize(random(9, 6), dim=1))]
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(*tensors)
    assert half.dtype == torch.float32
    assert torch.equal(half, loss(*(x.float() for x in tensors)))
