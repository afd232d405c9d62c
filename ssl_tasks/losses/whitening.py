"""W-MSE: whitening, and the distance of what is whitened. Shapes: N samples, D dimensions."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.linalg import cholesky, solve_triangular
from torch.nn.functional import normalize

from ssl_tasks.losses.precision import full_precision


@full_precision
def whitened(z_ND: Tensor, epsilon: float = 0.0) -> Tensor:
    """Samples of mean zero whose covariance is the identity: L^-1 (z - mean), for the covariance L L^T of the samples.

    https://arxiv.org/abs/2007.06346, equation 8. Computed in float64: a covariance in float32 loses half of its digits.

    Args:
        z_ND: more samples than dimensions.
        epsilon: share of the identity that is mixed into the covariance.

    Raises:
        torch.linalg.LinAlgError: where the samples span fewer than D dimensions and `epsilon` is 0.
    """
    centred = z_ND.double() - z_ND.double().mean(dim=0)
    covariance = centred.T @ centred / (len(z_ND) - 1)
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    root = cholesky((1 - epsilon) * covariance + epsilon * identity)
    white: Tensor = solve_triangular(root, centred.T, upper=False).T
    return white.to(z_ND.dtype)


@full_precision
def w_mse(views: Sequence[Tensor], slices: Sequence[Tensor], epsilon: float = 0.0) -> Tensor:
    """Squared distance of two views' embeddings, whitened and then set to length 1: a mean over pairs of views, slices and their samples.

    Equations 5 and 6 of https://arxiv.org/abs/2007.06346. Each slice of each view is whitened by itself, so that no embedding is white
    by the other view's help.

    Args:
        views: embeddings (N, D) of each view, in the same order.
        slices: samples that are whitened together, more than D each.
    """
    losses = []
    for slice in slices:
        white = [normalize(whitened(z[slice], epsilon), dim=1) for z in views]
        losses += [(first - second).square().sum(dim=1).mean() for first, second in combinations(white, 2)]
    return torch.stack(losses).mean()
