"""Sinkhorn-Knopp: balanced assignments. Shapes: B samples of all processes, K prototypes."""

import math

import torch
from torch import Tensor

from ssl_tasks.losses.precision import full_precision


@full_precision
@torch.no_grad()
def sinkhorn(logits_BK: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Codes Q (B, K): each sample's sum to 1, and each prototype gets near B / K of them. No gradient.

    Rows and columns of exp(logits / temperature) are scaled in turn, prototypes first and samples last, so that a sample's code is a
    distribution after any number of iterations. https://arxiv.org/abs/2006.09882, section 3.1 and appendix A

    Differs from the paper: computed on logarithms, as exp(1 / 0.05) of several prototypes overflows half precision; the same numbers.
    Some texts ask for columns of 1 and rows of 1 / K at once, which no matrix satisfies unless B is 1.

    Args:
        logits_BK: of the whole batch: the balance is over all processes' samples.
    """
    log_q = logits_BK / temperature
    samples, prototypes = log_q.shape
    for _ in range(iterations):
        log_q = log_q - torch.logsumexp(log_q, dim=0, keepdim=True) + math.log(samples / prototypes)
        log_q = log_q - torch.logsumexp(log_q, dim=1, keepdim=True)
    return log_q.exp()
