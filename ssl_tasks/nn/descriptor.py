"""What makes a descriptor of an encoder's last features: generalised-mean pooling, a linear head, whitening, length 1.

GeM: Fine-tuning CNN Image Retrieval with No Human Annotation. Radenovic, Tolias, Chum, 2017. https://arxiv.org/abs/1711.02512
Whitening after it: https://arxiv.org/abs/2202.10261, section 4.4. Shapes: B images, N patches or places,
or images of a corpus, D dimensions, K kept components.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.errors import UserError

P = 3
"""GeM's exponent: 1 is the mean, infinity the maximum. Fixed, as in SSCD's code (https://github.com/facebookresearch/sscd-copy-detection)."""
SMALLEST = 1e-6
"""What smaller activations are raised to before the power, as in the same code."""
CHUNK = 10_000
"""Rows of a corpus that are turned into float64 at a time."""


def gem(features_BND: Tensor) -> Tensor:
    """Generalised mean (B, D): the P-th root of the mean of P-th powers."""
    return features_BND.clamp(min=SMALLEST).pow(P).mean(dim=1).pow(1 / P)


class Unit(nn.Module):
    """Brings vectors (B, D) to length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, dim=-1)


class Whitening(nn.Module):
    """An affine map (B, D) -> (B, K) that is fitted to features and not trained; see `ssl_tasks.whiten`."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, dim: int, kept: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.zeros(kept, dim))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.matrix.T


def whitening(features_ND: NDArray[np.float32], kept: int, power: float = 0.5, epsilon: float = 1e-5) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """The mean (D,) and the matrix (K, D) of a PCA whitening, largest variance first, and the share of the variance that is kept.

    Computed in float64. The largest entry of each row is positive, which makes of the two signs that are right one.

    Args:
        power: of the variance that each component is divided by.
        epsilon: share of the largest variance that smaller ones are raised to.

    Raises:
        UserError: where all features are the same.
    """
    mean = features_ND.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for start in range(0, len(features_ND), CHUNK):
        centred = features_ND[start : start + CHUNK] - mean
        covariance += centred.T @ centred
    covariance /= max(1, len(features_ND) - 1)
    variances, directions = np.linalg.eigh(covariance)
    variances, directions = variances[::-1].clip(0), directions.T[::-1]
    if not variances[0] > 0:
        raise UserError("the checkpoint gives all images the same features: there is nothing to whiten")
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    scaled = signs[:, None] * directions / variances.clip(epsilon * variances[0])[:, None] ** power
    return mean.astype(np.float32), scaled[:kept].astype(np.float32), float(variances[:kept].sum() / variances.sum())
