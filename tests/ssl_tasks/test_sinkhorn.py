"""Sinkhorn-Knopp against its formula, worked examples and its limits."""

from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, double, random
from numpy.testing import assert_allclose
from test_clustering import scores

from ssl_tasks.losses.sinkhorn import sinkhorn


def sinkhorn_by_formula(logits: Matrix, epsilon: float, iterations: int) -> Any:
    """Section 3.1 of https://arxiv.org/abs/2006.09882 with loops: prototypes get mass 1 / K each, then samples 1 / B each; codes are B times that."""
    q = np.exp(logits.T / epsilon)
    q /= q.sum()
    k, b = q.shape
    for _ in range(iterations):
        for row in range(k):
            q[row] /= q[row].sum() * k
        for column in range(b):
            q[:, column] /= q[:, column].sum() * b
    return (q * b).T


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_is_the_papers_iteration(iterations: int) -> None:
    assert_allclose(sinkhorn(scores(12, 5), 0.05, iterations), sinkhorn_by_formula(scores(12, 5).numpy(), 0.05, iterations), rtol=1e-9)


AFFINITY = double([[10, 1, 5, 9], [1, 10, 6, 1], [7, 8, 9, 8]])
CONVERGED = {
    1.0: [[0.863736, 0.000004, 0.003902, 0.465692], [0.003396, 0.987042, 0.337917, 0.004978], [0.132868, 0.012954, 0.658181, 0.529330]],
    2.0: [[0.744011, 0.002480, 0.057193, 0.529649], [0.032850, 0.887149, 0.374778, 0.038556], [0.223138, 0.110371, 0.568029, 0.431795]],
    5.0: [[0.570439, 0.071936, 0.204451, 0.486507], [0.143288, 0.661313, 0.379472, 0.149261], [0.286273, 0.266751, 0.416077, 0.364232]],
}
"""Three prototypes by four samples, at each temperature."""


@pytest.mark.parametrize("temperature", CONVERGED)
def test_sinkhorn_converges_to_the_balanced_matrix(temperature: float) -> None:
    codes = sinkhorn(AFFINITY.T, temperature, 2000)
    assert_allclose(codes.T, CONVERGED[temperature], atol=1e-6)
    assert_allclose(codes.sum(dim=0), [4 / 3] * 3, atol=1e-6)


def test_sinkhorn_of_two_by_two_worked_out_by_hand() -> None:
    assert_allclose(sinkhorn(double([[4, 1], [1, 1]]).log(), 1.0, 100), [[2 / 3, 1 / 3], [1 / 3, 2 / 3]], rtol=1e-9)


@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
def test_a_code_is_a_distribution_after_any_number_of_iterations(iterations: int) -> None:
    codes = sinkhorn(scores(64, 8), 0.05, iterations)
    assert_allclose(codes.sum(dim=1), np.ones(64), rtol=1e-12)
    assert codes.min() >= 0


def test_prototypes_share_the_batch_better_with_each_iteration() -> None:
    errors = [(sinkhorn(scores(64, 8), 0.05, n).sum(dim=0) - 64 / 8).abs().sum().item() for n in (1, 2, 3, 5, 10, 30, 100)]
    assert errors == sorted(errors, reverse=True)
    assert 0.01 < errors[2] / 64 < 0.2  # three iterations leave some per cent
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("samples", [4, 64])
def test_codes_of_equal_scores_are_uniform(samples: int) -> None:
    assert_allclose(sinkhorn(torch.full((samples, 8), 0.3, dtype=torch.float64), 0.05), np.full((samples, 8), 1 / 8), rtol=1e-12)


def test_codes_ignore_a_constant_and_what_a_prototype_adds_to_every_score() -> None:
    """And once converged also what a sample adds."""
    logits = scores(12, 5)
    assert_allclose(sinkhorn(logits + 7, 0.05), sinkhorn(logits, 0.05), rtol=1e-9)
    assert_allclose(sinkhorn(logits + random(5), 0.05), sinkhorn(logits, 0.05), rtol=1e-9)
    assert_allclose(sinkhorn(logits + random(12)[:, None], 0.05, 500), sinkhorn(logits, 0.05, 500), atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 10.0, 100.0])
def test_codes_of_large_scores_are_finite_in_float32(size: float) -> None:
    codes = sinkhorn((size * random(64, 8)).float(), 0.05)
    assert codes.dtype == torch.float32
    assert codes.isfinite().all()
    assert_allclose(codes.sum(dim=1), np.ones(64), rtol=1e-4)


def test_no_gradient_flows_through_codes() -> None:
    assert not sinkhorn(scores(12, 5).requires_grad_(), 0.05).requires_grad
