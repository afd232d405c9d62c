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


def unit(x: Tensor) -> Matrix:
    """Rows of length 1."""
    rows: Matrix = x.detach().numpy()
    of_length_one: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return of_length_one


def nt_xent_by_formula(z: Tensor, z_prime: Tensor, tau: float, decoupled: bool = False) -> Matrix:
    """Equation 1 of https://arxiv.org/abs/2002.05709, and with `decoupled` L_DC of https://arxiv.org/abs/2110.06848: one loss an anchor."""
    views = np.concatenate([unit(z), unit(z_prime)])
    n = len(z)
    losses = []
    for i in range(2 * n):
        positive = (i + n) % (2 * n)
        left_out = (i, positive) if decoupled else (i,)
        denominator = sum(np.exp(views[i] @ views[k] / tau) for k in range(2 * n) if k not in left_out)
        losses.append(-np.log(np.exp(views[i] @ views[positive] / tau) / denominator))
    return np.array(losses)


def moco_by_formula(q: Tensor, k: Tensor, queue: Tensor, tau: float) -> float:
    """Equation 1 of https://arxiv.org/abs/1911.05722: one positive, K negatives."""
    losses = []
    for query, key in zip(unit(q), unit(k), strict=True):
        positive = np.exp(query @ key / tau)
        losses.append(-np.log(positive / (positive + sum(np.exp(query @ negative / tau) for negative in queue.numpy()))))
    return float(np.mean(losses))


def moco_v3_by_formula(q: Tensor, k: Tensor, tau: float) -> float:
    """`ctr` of algorithm 1 of https://arxiv.org/abs/2104.02057: cross-entropy over the keys of the batch, times 2 tau."""
    queries, keys = unit(q), unit(k)
    losses = []
    for i, query in enumerate(queries):
        similarities = np.exp([query @ key / tau for key in keys])
        losses.append(-np.log(similarities[i] / similarities.sum()))
    return float(2 * tau * np.mean(losses))
