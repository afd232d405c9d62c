"""VICReg's terms on matched places. Shapes: B samples, K places of each, D dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import relu

from ssl_tasks.losses.decorrelation import EPSILON
from ssl_tasks.losses.precision import full_precision


@full_precision
def place_variance(y_BKD: Tensor, y_prime_BKD: Tensor) -> Tensor:
    """`decorrelation.variance` over the samples, for the first place of each, the second and so on, a mean over them.

    https://github.com/facebookresearch/VICRegL/blob/main/main_vicregl.py (`_vicreg_loss`)
    """
    spread = (torch.stack([y_BKD, y_prime_BKD]).var(dim=1) + EPSILON).sqrt()
    return relu(1 - spread).mean()


@full_precision
def place_covariance(y_BKD: Tensor, y_prime_BKD: Tensor) -> Tensor:
    """`decorrelation.covariance` over the samples, for the first place of each, the second and so on, a mean over them."""
    places = torch.stack([y_BKD, y_prime_BKD]).transpose(1, 2)  # (2, K, B, D)
    centred = places - places.mean(dim=2, keepdim=True)
    squared = (centred.mT @ centred / (places.shape[2] - 1)).square()
    off_diagonal = squared.sum(dim=(2, 3)) - squared.diagonal(dim1=2, dim2=3).sum(dim=2)
    return off_diagonal.sum(dim=0).mean() / places.shape[3]
