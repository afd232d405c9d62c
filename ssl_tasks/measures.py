"""Measures of representations: pure functions of tensors, without labels unless named. What monitors look at during training."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


def effective_rank(features: Tensor) -> float:
    """RankMe: exp of the entropy of the singular values of (N, D) features over their sum. https://arxiv.org/abs/2210.02885, eq. 1"""
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum().clamp(min=1e-7) + 1e-7
    return torch.exp(-(shares * shares.log()).sum()).item()


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of two views' L2-normalised features (N, D): 0 is best. https://arxiv.org/abs/2005.10242, eq. 4"""
    return (normalize(first) - normalize(second)).square().sum(dim=1).mean().item()


def uniformity(features: Tensor) -> float:
    """Log of the mean Gaussian potential of pairs of L2-normalised features (N, D): 0 where all are one point, lower is more even.

    https://arxiv.org/abs/2005.10242, eq. 5
    """
    return torch.pdist(normalize(features)).square().mul(-2).exp().mean().log().item()


def nearest_neighbours(features: Tensor, labels: Tensor, k: int = 5) -> float:
    """Share of (N, D) features whose label is the most frequent one of their `k` nearest others by cosine."""
    unit = normalize(features)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    votes = labels[similarity.topk(min(k, len(labels) - 1)).indices]
    return (votes.mode(dim=1).values == labels).float().mean().item()


def embedding(z: Tensor) -> dict[str, float]:
    """How alive the embeddings (N, D) are that a method's loss sees, before any normalisation of the loss's own.

    `embedding_std`: of each dimension of the L2-normalised embeddings, times the root of D, mean over dimensions: 1 is healthy, 0 one
    point. `embedding_raw_std`: of each dimension as it comes. `embedding_rank`: RankMe around the mean; a batch norm at the end of a
    projector hides a collapse from the other two.
    """
    z = z.float()
    return {
        "embedding_std": normalize(z, dim=1).std(dim=0).mean().item() * math.sqrt(z.shape[1]),
        "embedding_raw_std": z.std(dim=0).mean().item(),
        "embedding_rank": effective_rank(z - z.mean(dim=0)),
    }


def spread(targets: Tensor) -> dict[str, float]:
    """How unlike the targets (B, N, D) are that a teacher gives for N patches of each of B images, normalised to a variance near 1.

    `target_std`: of each dimension over all patches, mean over dimensions: 1 at most, 0 where all patches are told the same.
    `target_image_std`: the same over images at each place alone: near 0 where a target tells of nothing but its place.
    """
    targets = targets.float()
    return {"target_std": targets.flatten(0, 1).std(dim=0).mean().item(), "target_image_std": targets.std(dim=0).mean().item()}


def distribution(probs: Tensor) -> dict[str, float]:
    """How a teacher's distributions (N, K) stand.

    `teacher_entropy` and `mean_entropy` are over ln K. The first near 1: collapsed to uniform. The second, of the mean distribution,
    near 0: collapsed to one prototype. Their difference is what a distribution tells of its image. `prototypes_used`: share of the
    prototypes that are some image's first choice, of as many as there can be.
    """
    probs = probs.float()
    uniform = math.log(probs.shape[1])
    return {
        "teacher_entropy": entropy(probs).mean().item() / uniform,
        "mean_entropy": entropy(probs.mean(dim=0)).item() / uniform,
        "prototypes_used": int(torch.bincount(probs.argmax(dim=1)).count_nonzero()) / min(probs.shape),
    }


def distillation(probs: Tensor, student_logits: Tensor, temperature: float, *, sharpest: float, views: int) -> dict[str, float]:
    """`distribution` of a teacher's distributions (N, K); `teacher_student_kl`, KL divergence from them to what a student says; `signal_gain`.

    A flat divergence means that nothing is learned.

    Args:
        student_logits: (N, K), of the same views.
        temperature: of the student's softmax.
        sharpest: the lowest temperature that the teacher has during the training.
        views: how many of each image, one after the other; with a single one there is no gain to be told.
    """
    log_student = torch.log_softmax(student_logits.float() / temperature, dim=-1)
    cross_entropy = -(probs.float() * log_student).sum(dim=-1)
    seen = {**distribution(probs), "teacher_student_kl": (cross_entropy - entropy(probs.float())).mean().item()}
    if views < 2:
        return seen
    first, second = student_logits.chunk(views)[:2]
    return {**seen, "signal_gain": signal_gain(first, second, temperature, sharpest)}


def signal_gain(first: Tensor, second: Tensor, student_temperature: float, teacher_temperature: float) -> float:
    """By what the teacher's signal is multiplied with each turn through the student, near the uniform distribution.

    There the softmax is linear: deviations of the log-probabilities are those of the logits over the temperature. The student's
    best answer to a view is the mean of the teacher's over other views of the image, which keeps of the signal, of what differs
    between images, the share on which views agree; with the student's logits the teacher is sharper by the ratio of temperatures.
    Below 1 the signal fades, and the uniform distribution draws the training in; above 1 it grows until the softmax bends.
    DINO's 0.1 / 0.04 needs an agreement of 0.4. Derived here, from DINO's equations 1 and 2: https://arxiv.org/abs/2104.14294

    Args:
        first, second: the student's logits (N, K) of two views of the same images.
    """
    return agreement(first, second) * student_temperature / teacher_temperature


def agreement(first: Tensor, second: Tensor) -> float:
    """Correlation of two views' outputs (N, D) around their means over the images: 1 where views of an image are told the same."""
    a, b = ((view.double() - view.double().mean(dim=0)).flatten() for view in (first, second))
    return float((a @ b) / (a.norm() * b.norm()).clamp(min=1e-12))


def entropy(probs: Tensor) -> Tensor:
    """Entropy in nats of distributions along the last dimension."""
    return -torch.xlogy(probs, probs).sum(dim=-1)


def perplexity(words: Tensor, vocabulary: int) -> float:
    """exp of the entropy of how often each word is used: from 1, where one word is everywhere, to the size of the vocabulary."""
    counts = torch.bincount(words.flatten(), minlength=vocabulary).double()
    return entropy(counts / counts.sum()).exp().item()
