"""Weighted nearest-neighbour vote: Wu, Xiong, Yu, Lin, 2018, https://arxiv.org/abs/1805.01978, section 3.4.

Cosine on L2-normalised features; a neighbour weighs exp(similarity / temperature).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from schemas.errors import UserError

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

_BLOCK = 1024
"""Queries compared at once: bounds the memory of the similarity matrix."""


def knn(bank: Floats, bank_labels: Ints, queries: Floats, query_labels: Ints, k: int, temperature: float, device: str = "cpu") -> float:
    """Accuracy of the vote of each query's k nearest labelled images.

    Args:
        bank, queries: features, (N, D) and (Q, D).
        bank_labels, query_labels: classes, (N,) and (Q,); the latter only score the votes.

    Raises:
        UserError: if k is larger than the bank.
    """
    if k > len(bank):
        raise UserError(f"knn: k is {k}, but only {len(bank)} labelled train images are there; lower k")
    similarities, nearest = neighbours(bank, queries, k, device)
    return float(np.mean(vote(similarities, bank_labels[nearest], temperature) == query_labels))


def vote(similarities: Floats, labels: Ints, temperature: float) -> Ints:
    """The class with the largest sum of exp(similarity / temperature); the smallest of several with the same sum.

    Args:
        similarities, labels: of each query's neighbours, (Q, k).

    Returns:
        One class a query, (Q,).
    """
    weights = np.exp((similarities - similarities.max(1, keepdims=True)) / temperature)
    sums = np.zeros((len(labels), labels.max() + 1))
    np.add.at(sums, (np.arange(len(labels))[:, None], labels), weights)
    chosen: Ints = sums.argmax(1)
    return chosen


def neighbours(bank: Floats, queries: Floats, k: int, device: str = "cpu") -> tuple[Floats, Ints]:
    """Cosine similarities and bank rows of each query's k nearest, nearest first, each (Q, k)."""
    directions = _unit(bank, device).T
    found = [torch.topk(_unit(queries[i : i + _BLOCK], device) @ directions, k) for i in range(0, len(queries), _BLOCK)]
    return torch.cat([f.values for f in found]).cpu().numpy(), torch.cat([f.indices for f in found]).cpu().numpy()


def _unit(features: Floats, device: str) -> Tensor:
    return normalize(torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(device), dim=1)
