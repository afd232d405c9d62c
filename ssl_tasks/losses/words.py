"""Visual words: what a discrete VAE finds them by, and what predicts them. Shapes: B images, N places, M of them masked, K words.

Zero-Shot Text-to-Image Generation, Ramesh et al., 2021. https://arxiv.org/abs/2102.12092
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ssl_tasks.losses.precision import full_precision

MARGIN = 0.1
"""Pixels in [0, 1] are moved into [MARGIN, 1 - MARGIN], where their logit is finite. Appendix A.3"""
FINEST = math.log(0.035)
"""Smallest log scale: one step of 8 bits, 0.8 / 255, is 0.035 in the logit where this is steepest; a scale below would tell steps that no pixel takes."""


@full_precision
def logit_laplace(median: Tensor, log_scale: Tensor, pixels: Tensor) -> Tensor:
    """Mean negative log likelihood in nats of pixels in [0, 1], whose logits are Laplace distributed. Appendix A.3

    -log f(x) = log 2b x (1 - x) + |logit x - mu| / b
    """
    x = MARGIN + (1 - 2 * MARGIN) * pixels
    log_scale = log_scale.clamp(min=FINEST)
    return (math.log(2) + log_scale + (x * (1 - x)).log() + (torch.logit(x) - median).abs() / log_scale.exp()).mean()


@full_precision
def kl_to_uniform(logits_BNK: Tensor) -> Tensor:
    """Mean over images and places of KL(q || uniform) = ln K - H(q), in nats."""
    log_q = logits_BNK.log_softmax(dim=-1)
    return math.log(logits_BNK.shape[-1]) + (log_q.exp() * log_q).sum(dim=-1).mean()


@full_precision
def gumbel_softmax(logits_BNK: Tensor, uniform_BNK: Tensor, temperature: float) -> Tensor:
    """A word a place, drawn from softmax(logits) and softened: near one-hot at a low temperature. https://arxiv.org/abs/1611.01144

    Args:
        uniform_BNK: numbers in [0, 1) that are drawn beforehand.
    """
    gumbel = -(-uniform_BNK.clamp(min=1e-20).log()).log()
    return ((logits_BNK + gumbel) / temperature).softmax(dim=-1)


@full_precision
def told_words(logits_BMK: Tensor, words_BM: Tensor) -> Tensor:
    """Mean of -ln p(word) over images and masked places; ln K where all words are equally likely. BEiT, https://arxiv.org/abs/2106.08254, equation 1"""
    return cross_entropy(logits_BMK.flatten(0, 1), words_BM.flatten())
