"""Histograms of oriented gradients: of each cell of an image, how strong edges are in it by their direction.

Dalal and Triggs, CVPR 2005; as the target of MaskFeat, https://arxiv.org/abs/2112.09133. Shapes: B images of C channels.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad

from ssl_tasks.losses.precision import full_precision

BINS = 9


@full_precision
def hog(images: Tensor, cell: int) -> Tensor:
    """Histograms (B, C * 9, H / cell, W / cell), each brought to length 1: every channel has its own, and a flat cell has zeros.

    The gradient is Sobel's, as in the authors' code, over an image whose edges are reflected. Its direction counts without its sign: bin k
    holds angles from k / 9 to (k + 1) / 9 of half a turn, beginning with a gradient along a row. A pixel counts in one bin alone.

    Args:
        images: (B, C, H, W), sides multiples of `cell`.
        cell: side of a cell, in pixels.
    """
    x = pad(images, (1, 1, 1, 1), mode="reflect")
    across, down = _smoothed(x.mT).mT, _smoothed(x)
    right, below = across[..., 2:] - across[..., :-2], down[..., 2:, :] - down[..., :-2, :]
    numbers = (torch.atan2(below, right) / math.pi * BINS).floor() % BINS
    strength = torch.hypot(below, right)
    bins = [avg_pool2d(torch.where(numbers == number, strength, 0), cell, divisor_override=1) for number in range(BINS)]
    return normalize(torch.stack(bins, dim=2), dim=2).flatten(1, 2)


def _smoothed(x: Tensor) -> Tensor:
    """Each row by 1, 2, 1 over neighbours in it."""
    return x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
