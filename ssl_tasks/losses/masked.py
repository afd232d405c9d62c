"""Reconstruction of masked patches. Shapes: B images, N patches, d pixels of a patch (over all channels)."""

from torch import Tensor

from ssl_tasks.losses.precision import full_precision

EPSILON = 1e-6
"""Added to a patch's variance. https://github.com/facebookresearch/mae/blob/main/models_mae.py (`forward_loss`)"""


@full_precision
def standardised(patches_BNd: Tensor) -> Tensor:
    """Each patch less the mean of its pixels, over their standard deviation: MAE's target (section 3, "Reconstruction target").

    The variance is the unbiased one, as in the authors' code; the paper does not say which.
    """
    mean, variance = patches_BNd.mean(dim=-1, keepdim=True), patches_BNd.var(dim=-1, keepdim=True)
    return (patches_BNd - mean) / (variance + EPSILON).sqrt()


@full_precision
def masked_mse(predicted_BNd: Tensor, target_BNd: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean squared error over the pixels of masked patches; those that were seen do not count. https://arxiv.org/abs/2111.06377

    Args:
        mask_BN: true where a patch was masked; some must be.
    """
    errors_BN = (predicted_BNd - target_BNd).square().mean(dim=-1)
    return errors_BN[mask_BN].mean()


@full_precision
def masked_l1(predicted_BNd: Tensor, target_BNd: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean absolute error over the pixels of masked patches; those that were seen do not count. https://arxiv.org/abs/2111.09886

    Args:
        mask_BN: true where a patch was masked; some must be.
    """
    errors_BN = (predicted_BNd - target_BNd).abs().mean(dim=-1)
    return errors_BN[mask_BN].mean()
