"""VICReg-exp and VICReg-ctr: their terms against the paper's equations, the duality they are built on, and what each term keeps away."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, random, two
from numpy.testing import assert_allclose
from planted import centred_rank, learned, on_points, two_views
from torch import Tensor, nn

from schemas.methods import VICRegCtr as VICRegCtrConfig
from schemas.methods import VICRegExp as VICRegExpConfig
from ssl_tasks.losses.decorrelation import invariance, variance
from ssl_tasks.losses.duality import covariances, similarities, soft_covariance, soft_maximum, soft_similarity, spread
from ssl_tasks.methods.decorrelation.vicreg_duality import VICRegDuality


def exp_by_formula(k: Matrix, tau: float) -> float:
    """Equation 11 of https://arxiv.org/abs/2206.02574, of embeddings (samples, dimensions) whose covariances repel."""
    c = np.cov(k, rowvar=False)
    return float(np.mean([math.log(sum(math.exp(c[i, j] / tau) for j in range(len(c)) if j != i)) for i in range(len(c))]))


def ctr_by_formula(k: Matrix, tau: float) -> float:
    """The same of the transposed, centred over samples first."""
    k = k - k.mean(axis=0)
    n, d = k.shape
    return float(np.mean([math.log(sum(math.exp(float(k[i] @ k[j]) / (d - 1) / tau) for j in range(n) if j != i)) for i in range(n)]))


def off_diagonal(matrix: Tensor) -> float:
    """Sum of squares off the diagonal: L_nc and L_c of the paper."""
    return float(matrix.square().sum() - matrix.diagonal().square().sum())


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_repulsions_are_the_papers_equations(tau: float) -> None:
    z, z_prime = (0.5 * y + 2 for y in two(7, 4))
    first, second = z.numpy(), z_prime.numpy()
    assert_allclose(soft_covariance(z, z_prime, tau), exp_by_formula(first, tau) + exp_by_formula(second, tau), rtol=1e-12)
    assert_allclose(soft_similarity(z, z_prime, tau), ctr_by_formula(first, tau) + ctr_by_formula(second, tau), rtol=1e-12)


def test_spread_is_the_hinge_of_each_samples_standard_deviation_over_its_dimensions() -> None:
    z, z_prime = (0.6 * y for y in two(7, 4))
    expected = []
    for k in (z.numpy(), z_prime.numpy()):
        rows = k - k.mean(axis=0)
        expected.append(np.mean([max(0.0, 1 - math.sqrt(row.var(ddof=1) + 1e-4)) for row in rows]))
    assert_allclose(spread(z, z_prime), np.mean(expected), rtol=1e-12)


@pytest.mark.parametrize(("samples", "dimensions"), [(9, 4), (4, 9), (6, 6)])
def test_covariances_and_similarities_have_the_same_squares_in_all(samples: int, dimensions: int) -> None:
    """|| Z^T Z ||_F = || Z Z^T ||_F, on which theorem 3.3 hangs."""
    z = random(samples, dimensions) + 1
    of_dimensions, of_samples = (samples - 1) * covariances(z), (dimensions - 1) * similarities(z)
    assert_allclose(torch.linalg.matrix_norm(of_dimensions), torch.linalg.matrix_norm(of_samples), rtol=1e-12)
    lengths = [float(m.diagonal().square().sum()) for m in (of_dimensions, of_samples)]
    assert_allclose(off_diagonal(of_dimensions) + lengths[0], off_diagonal(of_samples) + lengths[1], rtol=1e-12)


def test_with_rows_and_columns_of_one_length_both_criteria_differ_by_a_constant() -> None:
    """L_nc = L_c + N - M for rows and columns of length 1; here N rows of length 1 give M columns of length root N / M."""
    n, m = 8, 4
    signs = torch.tensor([[(-1.0) ** bin(i & (j + 1)).count("1") for j in range(m)] for i in range(n)], dtype=torch.float64)
    z = signs / math.sqrt(m)
    assert_allclose(z.sum(dim=0), 0, atol=1e-12)  # centred already
    of_dimensions, of_samples = (n - 1) * covariances(z), (m - 1) * similarities(z)
    assert_allclose(off_diagonal(of_dimensions) + m * (n / m) ** 2, off_diagonal(of_samples) + n, rtol=1e-12)


def test_of_embeddings_that_are_centred_both_ways_one_repulsion_is_the_other_of_the_transposed() -> None:
    def both_ways(z: Tensor) -> Tensor:
        return z - z.mean(dim=0) - z.mean(dim=1, keepdim=True) + z.mean()

    z, z_prime = map(both_ways, two(7, 4))
    assert_allclose(soft_similarity(z, z_prime, 0.3), soft_covariance(z.T, z_prime.T, 0.3), rtol=1e-12)
    assert_allclose(spread(z, z_prime), variance(z.T, z_prime.T), rtol=1e-12)


def test_chance_is_the_logarithm_of_how_many_others_there_are() -> None:
    z = random(5).expand(8, 5)
    assert_allclose(soft_covariance(z, z, 0.1), 2 * math.log(4), rtol=1e-9)
    assert_allclose(soft_similarity(z, z, 0.1), 2 * math.log(7), rtol=1e-9)


def test_a_cold_soft_maximum_is_the_largest_entry_of_each_row_over_the_temperature() -> None:
    matrix = random(6, 6)
    largest = matrix.clone().fill_diagonal_(-torch.inf).amax(dim=1).mean()
    assert_allclose(1e-3 * soft_maximum(matrix, 1e-3), largest, atol=1e-3)


def test_the_most_alike_are_pushed_most() -> None:
    matrix = torch.tensor([[9.0, 0.5, 0.1], [0.5, 9.0, 0.1], [0.1, 0.1, 9.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(soft_maximum(matrix, 0.1), matrix)
    assert gradient.diagonal().abs().max() == 0
    assert gradient[0, 1] > 10 * gradient[0, 2] > 0


@pytest.mark.parametrize(
    ("config", "repulsion", "keeps"),
    [(VICRegExpConfig, "covariance", variance), (VICRegCtrConfig, "similarity", spread)],
)
def test_methods_weigh_their_terms(config: Callable[..., Any], repulsion: str, keeps: Callable[..., Tensor]) -> None:
    views = two_views(torch.Generator().manual_seed(0))
    made: Any = on_points(VICRegDuality, config(hidden=32, output=16, invariance=2.0, variance=3.0, temperature=0.2, **{repulsion: 5.0}))
    z, z_prime = made.projector(made.encoder(torch.cat(views))).chunk(2)
    repelled = {"covariance": soft_covariance, "similarity": soft_similarity}[repulsion](z, z_prime, 0.2)
    assert made(views, 0.5) == {"invariance": 2 * invariance(z, z_prime), "variance": 3 * keeps(z, z_prime), repulsion: 5 * repelled}


Config = VICRegExpConfig | VICRegCtrConfig


def judged(config: Config) -> tuple[float, float]:
    """Mean spread of a dimension, and effective rank, of what is learned."""
    made: Any = on_points(VICRegDuality, config)
    learned(made, steps=150)
    network = nn.Sequential(made.encoder, made.projector).eval()
    with torch.no_grad():
        return float(network(two_views(torch.Generator().manual_seed(2))[0]).std(dim=0).mean()), centred_rank(network)


@pytest.mark.parametrize(
    ("config", "repulsion", "without"),
    [
        (VICRegExpConfig, "covariance", {"variance": 0.0, "covariance": 0.0}),  # covariances below 0 are rewarded, for which it takes some spread
        (VICRegCtrConfig, "similarity", {"variance": 0.0}),
    ],
)
def test_variance_keeps_from_a_point_and_repulsion_from_few_directions(config: Callable[..., Config], repulsion: str, without: dict[str, float]) -> None:
    small = {"hidden": 32, "output": 16}
    spread_of_all, rank_of_all = judged(config(**small))
    assert spread_of_all > 0.5
    assert judged(config(**small, **without))[0] < 0.2 * spread_of_all
    assert judged(config(**small, **{repulsion: 0.0}))[1] < 0.7 * rank_of_all
