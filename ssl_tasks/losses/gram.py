"""Gram anchoring. Shapes: B images, N patches of each; dimensions may differ between the two networks."""

from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from ssl_tasks.losses.precision import full_precision


@full_precision
def gram(student_BND: Tensor, teacher_BND: Tensor) -> Tensor:
    """How far the cosines between an image's patches are from those that a teacher gives them: mean square over pairs and images.

    Only the cosines count, so that features may turn freely. https://arxiv.org/abs/2508.10104, equation 3, which sums over pairs;
    the authors' code takes their mean, and the published weights belong to that.

    Args:
        student_BND: patch features of any length.
        teacher_BND: of the same patches, in the same order; no gradient flows to it.
    """
    student, teacher = normalize(student_BND, dim=-1), normalize(teacher_BND.detach(), dim=-1)
    return mse_loss(student @ student.mT, teacher @ teacher.mT)
