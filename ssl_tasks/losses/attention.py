"""Attention transfer. Shapes: B images, C channels of a map of H x W places, N = H x W; channels may differ between the two networks."""

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, mse_loss, normalize

from ssl_tasks.losses.precision import full_precision


@full_precision
def attention_map(features_BCHW: Tensor) -> Tensor:
    """Where an image's activations are large (B, N): their mean square over channels, brought to length 1.

    F_sum^2 of https://arxiv.org/abs/1612.03928, section 3.1, is the sum over channels: of length 1 both are the same.
    """
    return normalize(features_BCHW.square().mean(dim=1).flatten(1), dim=1)


@full_precision
def attention_transfer(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """Mean squared difference of the two attention maps, over images and places. https://arxiv.org/abs/1612.03928, equation 2

    The paper has the length of the difference and half of beta before it; the authors' code has this mean of squares, and the
    published beta of 1000 belongs to that: https://github.com/szagoruyko/attention-transfer (`utils.py`, `at_loss`).

    Args:
        student_BCHW: features of a layer. The larger of both maps is average-pooled to the smaller.
        teacher_BCHW: no gradient flows to it.
    """
    height, width = (min(sides) for sides in zip(student_BCHW.shape[2:], teacher_BCHW.shape[2:], strict=True))
    student, teacher = (attention_map(adaptive_avg_pool2d(features, (height, width))) for features in (student_BCHW, teacher_BCHW.detach()))
    return mse_loss(student, teacher)
