"""What makes a descriptor of an encoder's last features: generalised-mean pooling, a linear head, whitening, length 1.

GeM: Fine-tuning CNN Image Retrieval with No Human Annotation. Radenovic, Tolias, Chum, 2017. https://arxiv.org/abs/1711.02512
Whitening after it: https://arxiv.org/abs/2202.10261, section 4.4. Shapes: B images, N patches or places, D dimensions.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

P = 3
"""GeM's exponent: 1 is the mean, infinity the maximum. Fixed, as in SSCD's code (https://github.com/facebookresearch/sscd-copy-detection)."""
SMALLEST = 1e-6
"""What smaller activations are raised to before the power, as in the same code."""


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
