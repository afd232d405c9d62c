"""Feature regression. Shapes: B samples, D dimensions, C channels of a map of H x W places, N patches."""

from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss, smooth_l1_loss

from ssl_tasks.losses.precision import full_precision


@full_precision
def cosine_distance(predicted_BD: Tensor, target_BD: Tensor) -> Tensor:
    """1 - cosine of the angle between prediction and target, a mean over samples, or over places (B, N, D); lengths play no part."""
    return 1 - cosine_similarity(predicted_BD, target_BD.detach(), dim=-1).mean()


@full_precision
def smooth_l1(predicted_BD: Tensor, target_BD: Tensor, beta: float = 1.0) -> Tensor:
    """Mean over samples, or places (B, N, D), and dimensions of d^2 / (2 beta) where the difference d is below beta, and |d| - beta / 2 above.

    https://arxiv.org/abs/1504.08083, equation 3, which has beta = 1.
    """
    return smooth_l1_loss(predicted_BD, target_BD.detach(), beta=beta)


@full_precision
def hint(regressed_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean squared difference of a regressed feature map and the teacher's: equation 3 of https://arxiv.org/abs/1412.6550

    The paper has half the sum over the map; the mean does not depend on its size.
    """
    return mse_loss(regressed_BCHW, target_BCHW.detach())


@full_precision
def masked_smooth_l1(predicted_BND: Tensor, target_BND: Tensor, mask_BN: Tensor, beta: float) -> Tensor:
    """`smooth_l1` of masked patches alone.

    Args:
        mask_BN: true where a patch was masked; some must be.
    """
    return smooth_l1_loss(predicted_BND[mask_BN], target_BND.detach()[mask_BN], beta=beta)
