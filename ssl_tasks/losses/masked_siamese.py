"""MSN's assignments to prototypes, and how they are spread over these. Shapes: B samples, V views of each, K prototypes, D dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_tasks.losses.precision import full_precision


@full_precision
def log_assignments(z_BD: Tensor, prototypes_KD: Tensor, temperature: float) -> Tensor:
    """Log (B, K) of a softmax over the cosines of embeddings and prototypes. https://arxiv.org/abs/2204.07141, section 3, "Computing predictions" """
    return torch.log_softmax(normalize(z_BD, dim=1) @ normalize(prototypes_KD, dim=1).T / temperature, dim=1)


@full_precision
def agreement(log_anchors_VBK: Tensor, targets_BK: Tensor) -> Tensor:
    """Cross-entropy from the target view of each image to all its anchor views, a mean over both (equation 1, first term)."""
    return -(targets_BK.detach() * log_anchors_VBK).sum(dim=-1).mean()


@full_precision
def usage(mean_K: Tensor, prior_K: Tensor) -> Tensor:
    """KL divergence from how prototypes are used on average to how they should be: 0 where it is the same.

    https://arxiv.org/abs/2210.07277, section 4. With a uniform prior it is ln K less the entropy of the mean, MSN's mean-entropy
    maximisation (https://arxiv.org/abs/2204.07141, equation 1), and ln K where all images are on one prototype.
    """
    return (mean_K * (mean_K.log() - prior_K.log())).sum()


def power_law(prototypes: int, exponent: float) -> Tensor:
    """Shares (K,) that fall with the rank k of a prototype as k ** -exponent; uniform where the exponent is 0."""
    shares = torch.arange(1, prototypes + 1, dtype=torch.float64) ** -exponent
    return (shares / shares.sum()).float()
