"""VICReg-exp's covariances and VICReg-ctr's similarities, under one soft maximum. Shapes: N samples, D dimensions.

Z is centred: the mean of each dimension over the samples is 0. Covariances are Z^T Z / (N - 1), between dimensions; similarities
Z Z^T / (D - 1), between samples: the covariance of the transposed. The squares of all entries of Z^T Z and of Z Z^T have the same sum,
so that both criteria push alike but for their diagonals. https://arxiv.org/abs/2206.02574, theorem 3.3
"""

import torch
from torch import Tensor

from ssl_tasks.losses.decorrelation import variance
from ssl_tasks.losses.precision import full_precision


def covariances(z_ND: Tensor) -> Tensor:
    """(D, D), of each dimension with each."""
    centred = z_ND - z_ND.mean(dim=0)
    return centred.T @ centred / (len(z_ND) - 1)


def similarities(z_ND: Tensor) -> Tensor:
    """(N, N), of each sample with each; near the cosine where embeddings have the length that `spread` asks for."""
    centred = z_ND - z_ND.mean(dim=0)
    return centred @ centred.T / (z_ND.shape[1] - 1)


@full_precision
def soft_maximum(matrix: Tensor, temperature: float) -> Tensor:
    """log sum_{j != i} exp(M_ij / tau), a mean over rows i: equation 11.

    The entries keep their sign, as in InfoNCE: dimensions or samples that are opposite are not pushed.
    """
    diagonal = torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    return (matrix / temperature).masked_fill(diagonal, -torch.inf).logsumexp(dim=1).mean()


@full_precision
def soft_covariance(z_ND: Tensor, z_prime_ND: Tensor, temperature: float) -> Tensor:
    """VICReg-exp's repulsion: the soft maximum of each dimension's covariances with others, the sum of both views (equation 12)."""
    return soft_maximum(covariances(z_ND), temperature) + soft_maximum(covariances(z_prime_ND), temperature)


@full_precision
def soft_similarity(z_ND: Tensor, z_prime_ND: Tensor, temperature: float) -> Tensor:
    """VICReg-ctr's repulsion: the soft maximum of each sample's similarities with others of its view, the sum of both views (equation 13)."""
    return soft_maximum(similarities(z_ND), temperature) + soft_maximum(similarities(z_prime_ND), temperature)


@full_precision
def spread(z_ND: Tensor, z_prime_ND: Tensor) -> Tensor:
    """VICReg's variance term of the transposed (equation 13): how far the standard deviation of each sample's numbers stays below 1.

    With it a sample's length around the mean of the samples is near the root of D.
    """
    return variance((z_ND - z_ND.mean(dim=0)).T, (z_prime_ND - z_prime_ND.mean(dim=0)).T)
