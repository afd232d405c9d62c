"""DINO's targets and cross-entropy. Shapes: B samples, K prototypes."""

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
def dino(teacher_probs: list[Tensor], student_logits: list[Tensor], temperature: float) -> Tensor:
    """Cross-entropy from the teacher's views to all other views, a mean over pairs and samples (equation 3).

    Args:
        teacher_probs: (B, K) of each view that the teacher saw.
        student_logits: (B, K) of each view that the student saw, the teacher's views first and in the same order.
        temperature: of the student's softmax.
    """
    log_probs = [torch.log_softmax(logits / temperature, dim=-1) for logits in student_logits]
    pairs = [
        -(target * log_prob).sum(dim=-1).mean()
        for t, target in enumerate(teacher_probs)
        for s, log_prob in enumerate(log_probs)
        if s != t  # the same view twice would be answered without any invariance
    ]
    return torch.stack(pairs).mean()
