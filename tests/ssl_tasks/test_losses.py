"""Losses against the papers' formulas in float64 NumPy, and against numbers worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from formulas import double, two
from numpy.testing import assert_allclose
from torch import Tensor

from ssl_tasks.losses.feature import cosine_distance
from ssl_tasks.losses.self_distillation import center_and_sharpen, dino

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
