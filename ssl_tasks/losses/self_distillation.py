"""DINO's and iBOT's targets and cross-entropies. Shapes: B samples, K prototypes, M masked patches."""

import torch
from torch import Tensor

from ssl_tasks.losses.precision import full_precision


@full_precision
def center_and_sharpen(logits_BK: Tensor, center_K: Tensor, temperature: float) -> Tensor:
    """The teacher's distribution, (B, K) or (K,): softmax((logits - center) / temperature).

    https://arxiv.org/abs/2104.14294, section 3.1. The center keeps one prototype from winning everywhere, the low temperature
    keeps the distribution from becoming uniform.
    """
    return torch.softmax((logits_BK - center_K) / temperature, dim=-1)


@full_precision
def dino(teacher_probs: list[Tensor], student_logits: list[Tensor], temperature: float, local_weight: float = 1.0) -> Tensor:
    """Cross-entropy from the teacher's views to all other views, a mean over pairs and samples (equation 3).

    Args:
        teacher_probs: (B, K) of each view that the teacher saw.
        student_logits: (B, K) of each view that the student saw, the teacher's views first and in the same order.
        temperature: of the student's softmax.
        local_weight: factor of the pairs with a view that the teacher did not see; the number of pairs that divides stays.
    """
    views = len(teacher_probs)
    for_locals = local_weight * sum(teacher_probs)
    total = student_logits[0].new_zeros(())
    for s, logits in enumerate(student_logits):
        # The same view twice would be answered without any invariance. Cross-entropy is linear in the target: one for all pairs.
        target = for_locals if s >= views else sum(target for t, target in enumerate(teacher_probs) if t != s)
        if isinstance(target, Tensor):
            total = total + _cross_entropy(target, logits, temperature).mean()
    return total / (views * (len(student_logits) - 1))


@full_precision
def masked_patches(teacher_probs_MK: Tensor, student_logits_MK: Tensor, temperature: float, crops_M: Tensor, crops: int) -> Tensor:
    """iBOT's loss of masked patches: cross-entropy from teacher to student at the same place, a mean over each crop's, then over crops.

    https://arxiv.org/abs/2111.07832, equation 2, which sums over a crop's patches; the authors' code and DINOv2's take their mean,
    so that a crop weighs the same however much of it is masked. A crop without masked patches counts as zero.

    Args:
        temperature: of the student's softmax.
        crops_M: the number of the crop that a patch is of.
        crops: how many crops there are, masked or not.
    """
    losses = _cross_entropy(teacher_probs_MK, student_logits_MK, temperature)
    masked = losses.new_zeros(crops).scatter_add(0, crops_M, torch.ones_like(losses))
    return (losses / masked[crops_M]).sum() / crops


def _cross_entropy(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return -(target * torch.log_softmax(logits / temperature, dim=-1)).sum(dim=-1)
