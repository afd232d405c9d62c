"""What tests of losses share: the same random numbers at each call, and float64 matrices."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]


def random(*shape: int) -> Tensor:
    """Standard normal numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def two(*shape: int) -> tuple[Tensor, Tensor]:
    """Two of them, unlike each other."""
    first, second = random(2, *shape)
    return first, second


def double(rows: object) -> Tensor:
    """Numbers written by hand."""
    return torch.tensor(rows, dtype=torch.float64)


def softmax(x: Matrix) -> Matrix:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def koleo_by_formula(features: Matrix) -> float:
    """Equation 4 of https://arxiv.org/abs/1806.03198 with loops, of normalised features."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = [min(np.linalg.norm(unit[i] - unit[j]) for j in range(len(unit)) if j != i) for i in range(len(unit))]
    return float(-np.mean(np.log(nearest)))
