"""Noise-contrastive estimation against what is remembered of other images. Shapes: B anchors, K negatives of each."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ssl_tasks.losses.precision import full_precision


@full_precision
def pirl_nce(positive_B: Tensor, negatives_BK: Tensor, temperature: float) -> Tensor:
    """Equation 4 of https://arxiv.org/abs/1912.01991, a mean over anchors: -log h of the positive less the sum of log(1 - h) of the negatives.

    h of a pair is exp(s / tau) over itself and the sum of exp(s' / tau) over the negatives (equation 3). With L the logarithm of that sum,
    -log h = softplus(L - s / tau), and -log(1 - h) = softplus(s / tau - L). The sum stands for the normaliser of noise-contrastive estimation,
    and gets no gradient, as none does there: with it the nearest negatives of a positive that is found are drawn nearer.

    Args:
        positive_B: cosines s of each anchor and its own memory.
        negatives_BK: those with the memories of other images.
    """
    positive, negatives = positive_B / temperature, negatives_BK / temperature
    rest = torch.logsumexp(negatives, dim=1).detach()
    return (softplus(rest - positive) + softplus(negatives - rest[:, None]).sum(dim=1)).mean()
