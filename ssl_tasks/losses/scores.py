"""Losses on class scores. Shapes: B samples, C classes; logits as they come out of a classifier.

Divergences and cross-entropies are sums over classes. PyTorch's element mean would be C times smaller, by which weights that papers
give for it do not carry over. Where labels are needed, samples without one (-1) are left out, and `count` is what the sum over the
others is divided by: their number where not given; over several processes the mean of their numbers, so that the processes' losses
average to that of all samples.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import kl_div, log_softmax, softmax

from ssl_tasks.losses.precision import full_precision


@full_precision
def cross_entropy(logits_BC: Tensor, labels_B: Tensor, smoothing: float = 0.0, weights_B: Tensor | None = None, count: Tensor | None = None) -> Tensor:
    """-log of the label's probability, a mean over labelled samples, or weighed by `weights_B`, whose sum is then the count.

    Args:
        smoothing: share of each label that is spread over all classes, its own too (https://arxiv.org/abs/1512.00567, section 7).
    """
    each = torch_cross_entropy(logits_BC, labels_B, ignore_index=-1, reduction="none", label_smoothing=smoothing)
    weights = (labels_B >= 0).to(each.dtype) if weights_B is None else weights_B.masked_fill(labels_B < 0, 0.0)
    return _per((weights * each).sum(), weights.sum() if count is None else count)


@full_precision
def soft_cross_entropy(logits_BC: Tensor, targets_BC: Tensor, count: Tensor | None = None) -> Tensor:
    """-sum of targets times log-probabilities, a mean over samples; a sample whose targets are all 0 says nothing."""
    total = -(targets_BC * log_softmax(logits_BC, dim=1)).sum()
    return total / len(logits_BC) if count is None else _per(total, count)


@full_precision
def divergence(student_BC: Tensor, teacher_BC: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), a mean over samples. https://arxiv.org/abs/1503.02531

    The factor keeps the gradient's size when T changes: for large T it tends to (student - teacher) / C for logits of mean zero.
    """
    student, teacher = (log_softmax(logits / temperature, dim=1) for logits in (student_BC, teacher_BC))
    return temperature**2 * kl_div(student, teacher, reduction="batchmean", log_target=True)


@full_precision
def softened_cross_entropy(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """T^2 times the cross-entropy of softmax(teacher / T) and softmax(student / T), a mean over samples.

    It is `divergence` and T^2 times the teacher's entropy, below which it cannot fall.
    """
    return temperature**2 * soft_cross_entropy(student_BC / temperature, softmax(teacher_BC / temperature, dim=1))


@full_precision
def divergence_from(targets_BC: Tensor, logits_BC: Tensor, count: Tensor | None = None) -> Tensor:
    """KL(targets || softmax(logits)) of probabilities, a mean over samples; a sample whose targets are all 0 says nothing."""
    total = (torch.xlogy(targets_BC, targets_BC) - targets_BC * log_softmax(logits_BC, dim=1)).sum()
    return total / len(logits_BC) if count is None else _per(total, count)


@full_precision
def half_squared_distance(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Half the squared Euclidean distance, a mean over samples: equation 1 of https://arxiv.org/abs/1312.6184"""
    return (student_BC - teacher_BC).square().sum(dim=1).mean() / 2


@full_precision
def decoupled(student_BC: Tensor, teacher_BC: Tensor, labels_B: Tensor, temperature: float, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD, each times T^2: the divergences of the label's class against all others, and among the others.

    Equation 5 of https://arxiv.org/abs/2203.08679: `divergence` is TCKD + (1 - the teacher's probability of the label) NCKD, of each sample.
    """
    known = labels_B >= 0
    labels = labels_B.clamp(min=0)
    (s, s_others), (t, t_others) = (_apart(logits / temperature, labels) for logits in (student_BC, teacher_BC))
    target = kl_div(s, t, reduction="none", log_target=True).sum(dim=1)
    others = kl_div(s_others, t_others, reduction="none", log_target=True).sum(dim=1)
    number = known.sum() if count is None else count
    factor = temperature**2 * known
    return _per((factor * target).sum(), number), _per((factor * others).sum(), number)


def virtual_teacher(labels_B: Tensor, classes: int, confidence: float, temperature: float) -> Tensor:
    """Probabilities (B, C) of a teacher made by hand (https://arxiv.org/abs/1909.11723), 0 for a sample without label.

    It gives `confidence` to the label and the rest evenly to the others; these probabilities divided by T go through a softmax, as in
    the authors' code: of probabilities, not of their logarithms, so that what comes out is nearly even at T = 20.
    """
    said = torch.full((len(labels_B), classes), (1 - confidence) / (classes - 1), device=labels_B.device)
    said = said.scatter(1, labels_B.clamp(min=0)[:, None], confidence)
    return softmax(said / temperature, dim=1) * (labels_B >= 0)[:, None]


def others_permuted(probabilities_BC: Tensor, order: Tensor) -> Tensor:
    """Probabilities whose largest one of each sample stays and whose others change places by `order` (B, C - 1), a permutation a sample."""
    best = probabilities_BC.argmax(dim=1, keepdim=True)
    others = _without(torch.arange(probabilities_BC.shape[1], device=best.device).expand_as(probabilities_BC), best[:, 0])
    return probabilities_BC.scatter(1, others, probabilities_BC.gather(1, others.gather(1, order)))


def _apart(logits_BC: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the label and of all others together, (B, 2), and of each other among the others, (B, C - 1)."""
    whole, own = logits_BC.logsumexp(dim=1), logits_BC.gather(1, labels_B[:, None])[:, 0]
    others = _without(logits_BC, labels_B)
    return torch.stack([own - whole, others.logsumexp(dim=1) - whole], dim=1), log_softmax(others, dim=1)


def _without(values_BC: Tensor, classes_B: Tensor) -> Tensor:
    """The values (B, C - 1) of all classes but one of each sample."""
    columns = torch.arange(values_BC.shape[1], device=values_BC.device)
    return values_BC[columns != classes_B[:, None]].view(len(values_BC), -1)


def _per(total: Tensor, count: Tensor) -> Tensor:
    """total / count; 0 where nothing was counted."""
    return total / count.to(total.dtype).clamp(min=torch.finfo(total.dtype).tiny)
