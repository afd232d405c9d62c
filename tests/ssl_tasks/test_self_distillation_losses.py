"""Losses of DINO, iBOT, DINOv2 and DINOv3 against the papers' formulas in float64 NumPy."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from formulas import Matrix, double, koleo_by_formula, random, softmax
from numpy.testing import assert_allclose
from torch import Tensor

from ssl_tasks.losses.gram import gram
from ssl_tasks.losses.koleo import koleo
from ssl_tasks.losses.self_distillation import center_and_sharpen, dino, masked_patches

# DINO's loss of crops


def dino_by_formula(teacher: Matrix, student: Matrix, center: Matrix, tau_t: float, tau_s: float) -> float:
    """Equation 3 of https://arxiv.org/abs/2104.14294, of logits (views, samples, K)."""
    pairs = []
    for t, s in product(range(len(teacher)), range(len(student))):
        if s != t:
            p_t, p_s = softmax((teacher[t] - center) / tau_t), softmax(student[s] / tau_s)
            pairs.append(-(p_t * np.log(p_s)).sum(axis=-1).mean())
    return float(np.mean(pairs))


@pytest.mark.parametrize("local_views", [0, 2, 6])
def test_dino_is_the_papers_equation(local_views: int) -> None:
    teacher, student, center = random(2, 3, 5), random(2 + local_views, 3, 5), random(5)
    loss = dino(list(center_and_sharpen(teacher, center, 0.4)), list(student), 0.7)
    assert_allclose(loss, dino_by_formula(teacher.numpy(), student.numpy(), center.numpy(), 0.4, 0.7), rtol=1e-12)


@pytest.mark.parametrize(("views", "terms"), [(2, 2), (4, 6), (8, 14), (10, 18), (12, 22)])
def test_dino_averages_over_every_pair_but_the_same_view(views: int, terms: int) -> None:
    """Each pair's cross-entropy is its own number: the mean tells which pairs were taken."""
    targets = [double([[1.0, 0.0]]), double([[0.0, 1.0]])]
    logits = [torch.log_softmax(double([[0.0, float(s)]]), dim=-1) for s in range(views)]
    taken = [-logits[s][0, t] for t, s in product(range(2), range(views)) if s != t]
    assert len(taken) == terms
    assert_allclose(dino(targets, logits, 1.0), torch.stack(taken).mean(), rtol=1e-12)


def test_dino_of_uniform_outputs_is_the_logarithm_of_the_prototypes_and_has_no_gradient() -> None:
    logits = torch.zeros(4, 8, dtype=torch.float64, requires_grad=True)
    target = center_and_sharpen(torch.zeros(4, 8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64), 0.04)
    loss = dino([target, target], [logits, logits], 0.1)
    loss.backward()
    assert_allclose(loss.detach(), 2.079442, atol=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-15


def test_dino_of_a_dominant_prototype_is_nearly_zero_until_the_center_meets_it() -> None:
    logits = torch.eye(8, dtype=torch.float64)[:1]
    zero = torch.zeros(8, dtype=torch.float64)
    unmoved = [center_and_sharpen(logits, zero, 1e-3)] * 2
    assert_allclose(dino(unmoved, [logits] * 2, 0.1), math.log(1 + 7 * math.exp(-10)), rtol=1e-9)
    assert_allclose(dino(unmoved, [logits] * 2, 0.1), 0.000318, atol=1e-6)
    centered = [center_and_sharpen(logits, logits[0], 1e-3)] * 2
    assert_allclose(dino(centered, [logits] * 2, 0.1), 8.750318, atol=1e-6)


@pytest.mark.parametrize(("tau_t", "tau_s", "expected"), [(0.04, 0.1, 0.006806), (1.0, 1.0, 1.218376)])
def test_dino_worked_out_by_hand(tau_t: float, tau_s: float, expected: float) -> None:
    """One pair: the teacher's only view against the student's second."""
    teacher, student = double([[2, 1, 0, 0], [0, 1, 2, 0]]), double([[1, 0.5, 0, 0], [0, 0.5, 1, 0]])
    targets = center_and_sharpen(teacher, double([1, 1, 1, 0]), tau_t)
    assert_allclose(dino([targets], [student, student], tau_s), expected, atol=1e-6)


def test_pairs_with_a_local_crop_may_count_less() -> None:
    """DINOv3's weights with two global and eight local crops: 2/18 of the mean over global pairs, 16/18 of that over local ones."""
    teacher, student = random(2, 3, 5).softmax(-1), random(10, 3, 5)
    of_globals = dino(list(teacher), list(student[:2]), 0.1)
    everything = dino(list(teacher), list(student), 0.1)
    of_locals = (18 * everything - 2 * of_globals) / 16
    assert_allclose(dino(list(teacher), list(student), 0.1, local_weight=0.5), 2 / 18 * of_globals + 0.5 * 16 / 18 * of_locals, rtol=1e-12)


# iBOT's loss of masked patches


def test_the_loss_of_masked_patches_is_the_papers_equation_with_a_mean_over_a_crops_patches() -> None:
    """Equation 2 of https://arxiv.org/abs/2111.07832 with loops, over crops of which the third has no masked patch."""
    masks = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    teacher, student = softmax(random(3, 4, 6).numpy() / 0.07), random(3, 4, 6).numpy()[::-1] / 0.1
    losses = []
    for crop in range(3):
        patches = [-(teacher[crop, i] * np.log(softmax(student[crop, i]))).sum() for i in range(4) if masks[crop, i]]
        losses.append(np.mean(patches) if patches else 0.0)
    crops_M = torch.from_numpy(masks.nonzero()[0])
    ours = masked_patches(torch.from_numpy(teacher[masks]), torch.from_numpy((0.1 * student)[masks]), 0.1, crops_M, 3)
    assert_allclose(ours, np.mean(losses), rtol=1e-12)


def test_a_crop_weighs_the_same_however_much_of_it_is_masked() -> None:
    teacher, student = random(1, 8).softmax(-1), random(2, 8)[:1]
    for patches in (1, 10, 65):
        loss = masked_patches(teacher.expand(patches, -1), student.expand(patches, -1), 0.1, torch.zeros(patches, dtype=torch.long), 1)
        assert_allclose(loss, dino([teacher], [teacher, student], 0.1), rtol=1e-12)


def test_the_loss_of_no_masked_patch_is_zero_and_flows_back() -> None:
    student = torch.zeros(0, 8, dtype=torch.float64, requires_grad=True)
    loss = masked_patches(torch.zeros(0, 8, dtype=torch.float64), student, 0.1, torch.zeros(0, dtype=torch.long), 4)
    loss.backward()
    assert loss == 0


# KoLeo


def test_koleo_is_the_papers_equation() -> None:
    features = random(12, 5)
    assert_allclose(koleo(features), koleo_by_formula(features.numpy()), rtol=1e-7)
    assert_allclose(koleo(7 * features), koleo(features), rtol=1e-7)


def test_koleo_of_the_ends_of_four_axes() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    assert_allclose(koleo(torch.cat([eye, -eye])), -math.log(math.sqrt(2)), atol=1e-7)
    assert_allclose(koleo(torch.cat([eye, -eye])), -0.346574, atol=1e-6)


def test_koleo_drives_neighbours_apart() -> None:
    """With the sign that some texts print, 32 points on a sphere end on each other."""

    def spread(sign: float) -> float:
        points = random(32, 8).requires_grad_()
        optimizer = torch.optim.Adam([points], 0.05)
        for _ in range(300):
            optimizer.zero_grad()
            (sign * koleo(points)).backward()  # type: ignore[no-untyped-call]  # of torch
            optimizer.step()
        return math.exp(-koleo(points).item())

    start = math.exp(-koleo(random(32, 8)).item())
    assert spread(1.0) > 1.1 > start
    assert spread(-1.0) < 0.1


def test_koleo_of_equal_features_is_finite_and_so_is_its_gradient() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    koleo(features).backward()  # type: ignore[no-untyped-call]  # of torch
    assert koleo(features).isfinite()
    assert features.grad is not None
    assert features.grad.isfinite().all()


# Gram anchoring


def test_gram_is_the_papers_equation_with_a_mean_over_pairs() -> None:
    """Equation 3 of https://arxiv.org/abs/2508.10104 for each image, over the number of pairs, as in the authors' code."""
    student, teacher = random(3, 6, 5), random(3, 6, 4)
    losses = []
    for x_s, x_g in zip(student.numpy(), teacher.numpy(), strict=True):
        own, wanted = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (x_s, x_g))
        losses.append(((own @ own.T - wanted @ wanted.T) ** 2).sum() / 36)
    assert_allclose(gram(student, teacher), np.mean(losses), rtol=1e-12)


def test_gram_worked_out_by_hand() -> None:
    assert_allclose(gram(double([[[1, 0], [0, 1], [1, 1]]]), double([[[1, 0], [1, 0], [1, 1]]])), 2 / 9, rtol=1e-12)


def test_gram_lets_features_turn_and_change_places_and_length() -> None:
    features = random(2, 7, 5)
    rotation = torch.linalg.qr(random(5, 5)).Q
    for same in (features, features @ rotation, features[..., [3, 1, 4, 0, 2]], 3 * features):
        assert_allclose(gram(features, same), 0, atol=1e-14)
    assert gram(features, features[:, [1, 0, 2, 3, 4, 5, 6]]) > 0.01


def test_gram_pulls_the_student_only() -> None:
    student, teacher = random(2, 4, 3).requires_grad_(), random(2, 4, 3).flip(0).requires_grad_()
    gram(student, teacher).backward()  # type: ignore[no-untyped-call]  # of torch
    assert student.grad is not None
    assert teacher.grad is None


FAMILY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "masked patches": lambda a, b: masked_patches(a.float().softmax(-1), b, 0.1, torch.arange(len(a)) % 4, 4),
    "koleo": lambda a, b: koleo(torch.cat([a, b])),
    "gram": lambda a, b: gram(a[None], b[None]),
}


@pytest.mark.parametrize("loss", FAMILY.values(), ids=FAMILY)
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in random(2, 16, 12))
    expected = loss(a.float(), b.float())
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert computed == expected
