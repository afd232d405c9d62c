"""How images lie to each other, and to a set of others. Shapes: B images of this process, N of all processes, K anchors or negatives,
D dimensions of the student, E of the teacher.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, logsigmoid, normalize, smooth_l1_loss
from torch.utils.checkpoint import checkpoint

from ssl_tasks.losses.precision import full_precision

NUMBERS = 2**22
"""Of the rays from some images to all others, how many numbers are held at a time: 16 MiB in float32."""


@full_precision
def relative_distances(student_ND: Tensor, teacher_NE: Tensor) -> Tensor:
    """RKD's distance-wise loss: smooth L1 between Euclidean distances, each over the mean of its network's positive ones.

    Equations 4 to 6 of https://arxiv.org/abs/1904.05068, a mean over all N x N pairs, of which an image with itself adds nothing.
    """
    return smooth_l1_loss(_distances(student_ND), _distances(teacher_NE))


@full_precision
def angles(student_ND: Tensor, teacher_NE: Tensor, vertices_B: Tensor) -> Tensor:
    """RKD's angle-wise loss: smooth L1 between the cosines of the angles i-j-k, for all i and k and for j among `vertices_B`.

    Equations 7 and 8 of https://arxiv.org/abs/1904.05068, a mean over all B x N x N triples; one with i = j or j = k has cosine 0.
    Some vertices are looked at at a time and, in the backward pass, once more: memory grows with the square of N, time with its cube.
    """
    share = max(1, NUMBERS // (len(student_ND) * (len(student_ND) + max(student_ND.shape[1], teacher_NE.shape[1]))))
    parts = [checkpoint(_angles_at, student_ND, teacher_NE, some, use_reentrant=False, preserve_rng_state=False) for some in torch.split(vertices_B, share)]
    return torch.stack(parts).sum() / (len(vertices_B) * len(student_ND) ** 2)


@full_precision
def similarity_cross_entropy(student_BD: Tensor, teacher_BD: Tensor, queue_KD: Tensor, temperature: float, teacher_temperature: float) -> Tensor:
    """SEED: cross-entropy of the student's softmax of similarities to K + 1 teacher embeddings with the teacher's, a mean over images.

    Equations 3 to 5 of https://arxiv.org/abs/2101.04731. The first of the K + 1 is the teacher's of the image itself.

    Args:
        student_BD: of any length, as the teacher's.
        queue_KD: unit vectors, none of them of these images.
    """
    s, t = normalize(student_BD, dim=1), normalize(teacher_BD, dim=1)
    said, wanted = (torch.cat([(z * t).sum(dim=1, keepdim=True), z @ queue_KD.T], dim=1) for z in (s, t))
    return cross_entropy(said / temperature, (wanted / teacher_temperature).softmax(dim=1))


@full_precision
def similarity_divergence(student_BD: Tensor, anchors_KD: Tensor, teacher_BE: Tensor, teacher_anchors_KE: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of the softmaxes of similarities to K anchors, a mean over images.

    CompRess, https://arxiv.org/abs/2010.14713, and with one set of anchors for both ISD, https://arxiv.org/abs/2012.09259

    Args:
        student_BD: of any length, as the teacher's.
        anchors_KD: unit vectors that the student is compared with.
        teacher_anchors_KE: those that the teacher is compared with, of the same images in the same order.
    """
    said = normalize(student_BD, dim=1) @ anchors_KD.T / temperature
    wanted = normalize(teacher_BE, dim=1) @ teacher_anchors_KE.T / temperature
    return kl_div(log_softmax(said, dim=1), log_softmax(wanted, dim=1), reduction="batchmean", log_target=True)


@full_precision
def noise_contrastive(logits_BK1: Tensor, normaliser: Tensor, images: int) -> Tensor:
    """CRD: is it the image itself or one of K drawn from all? -log h of the first column - sum of log(1 - h) of the others, a mean over rows.

    h = q / (q + K / images) with q = exp(logit) / normaliser: equations 10 and 19 of https://arxiv.org/abs/1910.10699, with noise as
    in https://arxiv.org/abs/1805.01978, equation 7. In logarithms, so that nothing has to keep a quotient from 0.

    Args:
        logits_BK1: similarities over the temperature; of the image itself in the first column, of K others behind.
        normaliser: Z, a scalar.
        images: how many the negatives are drawn from.
    """
    negatives = logits_BK1.shape[1] - 1
    odds = logits_BK1 - normaliser.log() - math.log(negatives / images)
    return -(logsigmoid(odds[:, 0]) + logsigmoid(-odds[:, 1:]).sum(dim=1)).mean()


def _distances(x_ND: Tensor) -> Tensor:
    """From the differences, not from products, which would lose the digits of small distances; the gradient of a distance 0 is 0."""
    distances: Tensor = torch.cdist(x_ND, x_ND, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.clamp(min=torch.finfo(mean.dtype).tiny)


def _angles_at(student_ND: Tensor, teacher_NE: Tensor, vertices: Tensor) -> Tensor:
    """Sum of the smooth L1 differences of the cosines at some vertices."""
    return smooth_l1_loss(_cosines(student_ND, vertices), _cosines(teacher_NE, vertices), reduction="sum")


def _cosines(x_ND: Tensor, vertices: Tensor) -> Tensor:
    """Cosines (vertices, N, N) between the rays from each vertex to every image; a ray of no length has neither direction nor gradient."""
    rays = x_ND - x_ND[vertices, None]
    lengths = rays.norm(dim=2, keepdim=True)
    directions: Tensor = rays / lengths.masked_fill(lengths == 0, torch.inf)
    return directions @ directions.mT
