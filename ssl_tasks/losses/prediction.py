"""Predictions of one view's embedding from another's. Shapes: B samples, D dimensions. No gradient flows into a target."""

from torch import Tensor

from ssl_tasks.losses.feature import cosine_distance


def byol(predicted_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Squared distance of prediction and target, both of length 1, a mean over samples: 2 - 2 cos, between 0 and 4.

    https://arxiv.org/abs/2006.07733, equation 2: one direction, of which the method adds two.
    """
    return 2 * cosine_distance(predicted_BD, target_BD.detach())


def simsiam(predicted_BD: Tensor, target_BD: Tensor) -> Tensor:
    """1 - cos of prediction and target, a mean over samples, between 0 and 2.

    https://arxiv.org/abs/2011.10566, equation 1, of one direction, plus 1: that is -1 at its best, and so is a collapse. The gradient is
    the same, and the loss a distance as the others are.
    """
    return cosine_distance(predicted_BD, target_BD.detach())
