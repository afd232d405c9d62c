"""Nearest neighbours by cosine, a block of queries at a time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

_BLOCK = 1024
"""Queries compared at once: bounds the memory of the similarity matrix."""


def neighbours(bank: Floats, queries: Floats, k: int, device: str = "cpu") -> tuple[Floats, Ints]:
    """Cosine similarities and bank rows of each query's k nearest, nearest first, each (Q, k)."""
    directions = _unit(bank, device).T
    found = [torch.topk(_unit(queries[i : i + _BLOCK], device) @ directions, k) for i in range(0, len(queries), _BLOCK)]
    return torch.cat([f.values for f in found]).cpu().numpy(), torch.cat([f.indices for f in found]).cpu().numpy()


def _unit(features: Floats, device: str) -> Tensor:
    return normalize(torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(device), dim=1)
