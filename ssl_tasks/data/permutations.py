"""Permutations that are as unlike as can be: orders of tiles that a network can tell apart."""

import itertools
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def far_permutations(count: int, items: int = 9) -> Tensor:
    """Permutations (count, items) of `items` things, each next one as far from those before it as any; the same ones every time.

    Far is by Hamming distance, in how many places two of them differ: first from the nearest one before, then from all on average. With the
    average alone (https://arxiv.org/abs/1603.09246, algorithm 1) it is as high, but pairs come in that differ in two places.
    """
    return torch.from_numpy(_chosen(count, items).astype(np.int64))


@cache
def _chosen(count: int, items: int) -> NDArray[np.uint8]:
    every = np.array(list(itertools.permutations(range(items))), dtype=np.uint8).T.copy()
    assert 0 < count <= every.shape[1]
    nearest = np.full(every.shape[1], items, dtype=np.int64)
    total = np.zeros(every.shape[1], dtype=np.int64)
    chosen = [0]
    while len(chosen) < count:
        distance = np.zeros(every.shape[1], dtype=np.uint8)
        for place, item in zip(every, every[:, chosen[-1]], strict=True):
            distance += place != item
        np.minimum(nearest, distance, out=nearest)
        total += distance
        chosen.append(int((nearest * (items * count + 1) + total).argmax()))
    return every[:, chosen].T
