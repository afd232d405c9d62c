"""Telling colours by their bins. Shapes: n places or pixels, Q bins, K bins that a colour is shared among."""

import torch
from torch import Tensor

from ssl_tasks.losses.precision import full_precision


@full_precision
def soft_cross_entropy(logits_nQ: Tensor, bins_nK: Tensor, shares_nK: Tensor, weights_Q: Tensor) -> Tensor:
    """Cross-entropy with a colour's shares of its K nearest bins, times the weight of the nearest, a mean over places.

    Equations 2 and 3 of https://arxiv.org/abs/1603.08511, which add up over places.

    Args:
        bins_nK: numbers of the bins, the nearest first.
        shares_nK: add up to 1.
        weights_Q: of `rebalancing`, or ones.
    """
    told = logits_nQ.log_softmax(dim=1).gather(1, bins_nK)
    return -(weights_Q[bins_nK[:, 0]] * (shares_nK * told).sum(dim=1)).mean()


@full_precision
def rebalancing(frequencies_Q: Tensor, smoothing_QQ: Tensor, uniform: float) -> Tensor:
    """Weights of bins, the higher the rarer: 1 over the smoothed frequencies mixed with a uniform distribution, of mean 1 over colours as they come.

    Equation 4 of https://arxiv.org/abs/1603.08511

    Args:
        frequencies_Q: shares of the colours that fall in each bin.
        smoothing_QQ: columns add up to 1, so that shares are spread and none is lost.
        uniform: lambda, the uniform distribution's share.
    """
    smooth = smoothing_QQ @ frequencies_Q
    weights = 1 / ((1 - uniform) * smooth + uniform / len(smooth))
    return weights / (smooth * weights).sum()


@full_precision
def spread(centres_Q2: Tensor, sigma: float) -> Tensor:
    """A Gaussian's share (Q, Q) of each bin for what falls in another; columns add up to 1."""
    return (-torch.cdist(centres_Q2, centres_Q2).square() / (2 * sigma**2)).softmax(dim=0)
