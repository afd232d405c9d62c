"""Losses of features, feature maps and attention against the papers' formulas in float64 NumPy, and against numbers worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from formulas import Matrix, double, random, two
from numpy.testing import assert_allclose
from torch import Tensor

from ssl_tasks.losses.attention import attention_map, attention_transfer
from ssl_tasks.losses.feature import cosine_distance, hint, masked_smooth_l1, smooth_l1
from ssl_tasks.losses.gram import gram

# Smooth L1


def smooth_l1_by_formula(differences: Matrix, beta: float = 1.0) -> float:
    """Equation 3 of https://arxiv.org/abs/1504.08083 with loops; with beta as in https://github.com/liuxingbin/dbot (`models_mae.py`)."""
    each = [0.5 * d * d / beta if abs(d) < beta else abs(d) - 0.5 * beta for d in differences.ravel()]
    return float(np.mean(each))


@pytest.mark.parametrize("beta", [0.1, 1.0, 2.0])
def test_smooth_l1_is_squared_below_beta_and_absolute_above(beta: float) -> None:
    predicted, target = two(6, 5)
    assert_allclose(smooth_l1(predicted, target, beta), smooth_l1_by_formula((predicted - target).numpy(), beta), rtol=1e-12)


def test_smooth_l1_worked_out_by_hand() -> None:
    assert_allclose(smooth_l1(double([[0.5, 3.0]]), double([[0.0, 0.0]])), (0.125 + 2.5) / 2, rtol=1e-12)
    assert_allclose(smooth_l1(double([[1.0, 5.0]]), double([[0.0, 0.0]]), 2.0), (0.25 + 4.0) / 2, rtol=1e-12)


def test_masked_smooth_l1_is_a_mean_over_masked_patches_alone() -> None:
    predicted, target = two(3, 4, 5)
    mask = torch.tensor([[True, False, False, True], [False, True, True, False], [True, True, False, False]])
    masked = [(predicted - target).numpy()[b, n] for b in range(3) for n in range(4) if mask[b, n]]
    assert_allclose(masked_smooth_l1(predicted, target, mask, 2.0), smooth_l1_by_formula(np.array(masked), 2.0), rtol=1e-12)
    spoilt = torch.where(mask[..., None], predicted, torch.full_like(predicted, 1e6))
    assert masked_smooth_l1(spoilt, target, mask, 2.0) == masked_smooth_l1(predicted, target, mask, 2.0)


def test_distances_of_places_are_means_over_images_and_places() -> None:
    predicted, target = two(3, 4, 5)
    rows = predicted.flatten(0, 1), target.flatten(0, 1)
    assert_allclose(cosine_distance(predicted, target), cosine_distance(*rows), rtol=1e-12)
    assert_allclose(smooth_l1(predicted, target), smooth_l1(*rows), rtol=1e-12)


# Hints


def test_a_hint_is_twice_the_papers_loss_a_number_of_the_map() -> None:
    """Equation 3 of https://arxiv.org/abs/1412.6550: half the squared length of the difference, of each image."""
    regressed, target = two(3, 4, 2, 2)
    by_paper = [0.5 * ((regressed[b] - target[b]).numpy() ** 2).sum() for b in range(3)]
    assert_allclose(hint(regressed, target), 2 * np.mean(by_paper) / (4 * 2 * 2), rtol=1e-12)


# Attention


def attention_by_formula(features: Matrix) -> Matrix:
    """Q / ||Q|| of https://arxiv.org/abs/1612.03928, section 3.1, with F_sum^2: the sum of squares over channels, as one row an image."""
    q = np.array(
        [[sum(image[c, y, x] ** 2 for c in range(image.shape[0])) for y in range(image.shape[1]) for x in range(image.shape[2])] for image in features]
    )
    unit: Matrix = q / np.sqrt((q**2).sum(axis=1, keepdims=True))
    return unit


def pooled_by_hand(features: Matrix, factor: int) -> Matrix:
    """Means of squares of `factor` x `factor` places."""
    b, c, h, w = features.shape
    pooled: Matrix = features.reshape(b, c, h // factor, factor, w // factor, factor).mean(axis=(3, 5))
    return pooled


def test_an_attention_map_is_the_normalised_sum_of_squares_over_channels() -> None:
    assert_allclose(attention_map(random(3, 4, 2, 5)), attention_by_formula(random(3, 4, 2, 5).numpy()), rtol=1e-12)


def test_attention_transfer_is_the_mean_square_of_the_papers_difference() -> None:
    """Equation 2 has the length of the difference; of one pair of maps the loss is its square over the number of places."""
    student, teacher = random(3, 4, 5, 5), random(3, 7, 5, 5)
    differences = attention_by_formula(student.numpy()) - attention_by_formula(teacher.numpy())
    lengths = np.sqrt((differences**2).sum(axis=1))
    assert_allclose(attention_transfer(student, teacher), np.mean(lengths**2) / 25, rtol=1e-12)


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled_to_the_smaller(larger: str) -> None:
    large, small = random(3, 4, 6, 6), random(3, 5, 3, 3)
    student, teacher = (large, small) if larger == "student" else (small, large)
    differences = attention_by_formula(pooled_by_hand(large.numpy(), 2)) - attention_by_formula(small.numpy())
    assert_allclose(attention_transfer(student, teacher), (differences**2).mean(), rtol=1e-12)


def test_attention_transfer_worked_out_by_hand() -> None:
    """Squares 9, 16 against 1, 0: (9, 16) / sqrt(337) less (1, 0)."""
    student, teacher = double([[[[3.0, -4.0]]]]), double([[[[-1.0, 0.0]]]])
    expected = ((9 / 337**0.5 - 1) ** 2 + (16 / 337**0.5) ** 2) / 2
    assert_allclose(attention_transfer(student, teacher), expected, rtol=1e-12)


def test_attention_knows_no_sign_no_scale_and_no_order_of_channels() -> None:
    student, teacher = two(3, 4, 3, 3)
    changed = -2.5 * teacher[:, [2, 0, 3, 1]]
    assert_allclose(attention_transfer(student, changed), attention_transfer(student, teacher), rtol=1e-12)
    assert_allclose(attention_transfer(student, 3 * student), 0.0, atol=1e-30)


# Relations of patches


def test_gram_is_the_mean_square_over_all_pairs_of_patches() -> None:
    """Equation 3 of https://arxiv.org/abs/2508.10104 over N^2, with patches of different dimensions."""
    student, teacher = random(2, 3, 5).numpy(), random(2, 3, 4).numpy()
    errors = []
    for s, t in zip(student, teacher, strict=True):
        for i in range(3):
            for j in range(3):
                cosines = [float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])) for x in (s, t)]
                errors.append((cosines[0] - cosines[1]) ** 2)
    assert_allclose(gram(random(2, 3, 5), random(2, 3, 4)), np.mean(errors), rtol=1e-12)


# All of them


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "smooth_l1": smooth_l1,
    "masked": lambda a, b: masked_smooth_l1(a, b, torch.arange(16).view(4, 4) % 3 == 0, 2.0),
    "gram": gram,
    "hint": lambda a, b: hint(a[None], b[None]),
    "attention": lambda a, b: attention_transfer(a[None], b[None]),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@each_loss
def test_no_gradient_flows_to_the_teacher(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student, teacher = (x.requires_grad_() for x in two(4, 4, 4))
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.any()


@each_loss
def test_gradients_are_those_of_the_formula(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student, teacher = two(4, 4, 4)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student.requires_grad_())


@each_loss
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in two(4, 4, 4))
    expected = loss(a.float(), b.float())
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert computed == expected
