"""Losses against the papers' formulas in float64 NumPy, and against numbers worked out by hand."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from ssl_tasks.losses.decorrelation import covariance, invariance, variance
from ssl_tasks.losses.feature import cosine_distance
from ssl_tasks.losses.self_distillation import center_and_sharpen, dino

Matrix = NDArray[np.float64]


def random(*shape: int) -> Tensor:
    """Standard normal numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def two(*shape: int) -> tuple[Tensor, Tensor]:
    first, second = random(2, *shape)
    return first, second


def double(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# VICReg


def vicreg_by_formula(z: Matrix, z_prime: Matrix) -> tuple[float, float, float]:
    """Equations 1 to 5 of https://arxiv.org/abs/2105.04906 in the scaling of the authors' code."""
    n, d = z.shape
    hinge = [np.mean([max(0.0, 1 - math.sqrt(y[:, j].var(ddof=1) + 1e-4)) for j in range(d)]) for y in (z, z_prime)]
    off_diagonal = 0.0
    for y in (z, z_prime):
        c = np.cov(y, rowvar=False)
        off_diagonal += sum(c[i, j] ** 2 for i, j in product(range(d), repeat=2) if i != j) / d
    return ((z - z_prime) ** 2).sum() / (n * d), sum(hinge) / 2, off_diagonal


def vicreg_terms(z: Tensor, z_prime: Tensor) -> list[float]:
    return [float(term(z, z_prime)) for term in (invariance, variance, covariance)]


def test_vicreg_is_the_papers_equations_in_the_authors_scaling() -> None:
    z, z_prime = two(7, 4)
    assert_allclose(vicreg_terms(0.6 * z, z_prime), vicreg_by_formula(0.6 * z.numpy(), z_prime.numpy()), rtol=1e-12)


def test_vicreg_of_a_collapsed_batch_is_its_variance_term_alone() -> None:
    z = torch.zeros(4, 2, dtype=torch.float64)
    assert_allclose(vicreg_terms(z, z), [0, 0.99, 0], atol=1e-12)
    assert_allclose(25 * variance(z, z), 24.75, atol=1e-12)


VICREG_TOY = double([[1, 2], [-1, 0], [1, 0], [-1, -2]]), double([[1, 1], [-1, 1], [1, -1], [-1, -1]])


def test_vicreg_worked_out_by_hand() -> None:
    terms = vicreg_terms(*VICREG_TOY)
    assert_allclose(terms, [0.5, 0, 1.777778], atol=1e-6)
    assert_allclose(np.dot([25, 25, 1], terms), 14.277778, atol=1e-6)


def test_vicreg_worked_out_by_hand_with_little_spread() -> None:
    terms = vicreg_terms(*(0.1 * z for z in VICREG_TOY))
    assert_allclose(terms[1], 0.872172, atol=1e-6)
    assert_allclose(np.dot([25, 25, 1], terms), 21.929478, atol=1e-6)


# Feature regression


def test_cosine_distance_is_one_minus_cosine() -> None:
    predicted, target = two(6, 5)
    p, t = predicted.numpy(), target.numpy()
    cosines = (p * t).sum(axis=1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1)
    assert_allclose(cosine_distance(predicted, target), 1 - cosines.mean(), rtol=1e-12)


def test_cosine_distance_worked_out_by_hand() -> None:
    assert_allclose(cosine_distance(double([[3, 4]]), double([[4, 3]])), 0.04, atol=1e-12)
    assert_allclose(cosine_distance(double([[1, 0], [1, 0]]), double([[9, 0], [-2, 0]])), 1.0, atol=1e-12)


# Precision


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "invariance": invariance,
    "variance": variance,
    "covariance": covariance,
    "dino": lambda a, b: dino([center_and_sharpen(a, b[0], 0.04)], [a, b], 0.1),
    "cosine": cosine_distance,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in two(16, 12))
    expected = loss(a.float(), b.float())
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert computed == expected
