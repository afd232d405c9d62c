"""Predictions of what a teacher says of patches. Shapes: B images, N patches, D dimensions. No gradient flows into a target."""

from torch import Tensor
from torch.nn.functional import instance_norm, layer_norm, mse_loss, smooth_l1_loss

from ssl_tasks.losses.precision import full_precision


@full_precision
def layer_normalised(features_BND: Tensor) -> Tensor:
    """Each patch's feature less the mean of its dimensions, over their standard deviation."""
    return layer_norm(features_BND, features_BND.shape[-1:])


@full_precision
def instance_normalised(features_BND: Tensor) -> Tensor:
    """Each dimension less its mean over an image's patches, over its standard deviation there: nothing that all patches share is left."""
    return instance_norm(features_BND.mT).mT


@full_precision
def squared(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance over all numbers."""
    return mse_loss(predicted, target.detach())


@full_precision
def smooth_l1(predicted: Tensor, target: Tensor, beta: float) -> Tensor:
    """Mean over all numbers of d^2 / (2 beta) where the distance d is below beta, of d - beta / 2 elsewhere.

    https://arxiv.org/abs/2202.03555, equation 4
    """
    return smooth_l1_loss(predicted, target.detach(), beta=beta)


@full_precision
def masked_smooth_l1(predicted_BND: Tensor, target_BND: Tensor, mask_BN: Tensor, beta: float) -> Tensor:
    """`smooth_l1` over masked patches alone; some must be.

    Args:
        mask_BN: true where a patch was masked.
    """
    errors_BN = smooth_l1_loss(predicted_BND, target_BND.detach(), beta=beta, reduction="none").mean(dim=-1)
    return (errors_BN * mask_BN).sum() / mask_BN.sum()
