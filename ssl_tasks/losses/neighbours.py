"""Contrast across views, neighbours and similarity distributions. Shapes: B images of this process, N of all processes, K rows of a queue or
a bank, k neighbours, D dimensions.

Embeddings may have any length, they are L2-normalised here; rows of queues and banks are unit vectors.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

from ssl_tasks.losses.precision import full_precision


@full_precision
def across_views(anchors_BD: Tensor, candidates_ND: Tensor, temperature: float, offset: int = 0) -> Tensor:
    """InfoNCE of anchors of one view with candidates of the other alone, a mean over anchors.

    With z and z' of two views DirectCLR's, equation 1 of https://arxiv.org/abs/2110.09348; with the nearest neighbours of z and
    predictions from z' NNCLR's, equation 3 of https://arxiv.org/abs/2104.14548. Both take the mean of both directions.

    Args:
        candidates_ND: of all processes, in the order of their images; those of other images are the negatives.
        offset: row of the first anchor's candidate.
    """
    logits = normalize(anchors_BD, dim=1) @ normalize(candidates_ND, dim=1).T / temperature
    return cross_entropy(logits, offset + torch.arange(len(logits), device=logits.device))


@full_precision
def mean_shift(predicted_BD: Tensor, neighbours_BkD: Tensor) -> Tensor:
    """Squared distance of a prediction to each of its target's neighbours, all of length 1: 2 - 2 cos, a mean over both.

    Section 3 of https://arxiv.org/abs/2105.07269. No gradient flows into the neighbours.
    """
    cosines = normalize(predicted_BD, dim=1)[:, None] * normalize(neighbours_BkD.detach(), dim=2)
    return 2 - 2 * cosines.sum(dim=2).mean()


@full_precision
def instance_softmax(v_BD: Tensor, bank_KD: Tensor, itself_B: Tensor, temperature: float) -> Tensor:
    """-log of the probability that an image is itself among all of the bank, a mean over images.

    Equations 2 and 3 of https://arxiv.org/abs/1805.01978

    Args:
        itself_B: the row of each image in the bank.
    """
    return cross_entropy(normalize(v_BD, dim=1) @ bank_KD.T / temperature, itself_B)


@full_precision
def proximal(v_BD: Tensor, before_BD: Tensor) -> Tensor:
    """Squared distance of an image's unit vector to the one that the bank holds of it, a mean over images.

    Equation 10 of https://arxiv.org/abs/1805.01978, without its weight.
    """
    return (normalize(v_BD, dim=1) - before_BD.detach()).square().sum(dim=1).mean()


@full_precision
def divergence(strong_BD: Tensor, weak_BD: Tensor, k_BD: Tensor, queue_KD: Tensor, temperature: float) -> Tensor:
    """KL(p(.|weak) || p(.|strong)), p the softmax of similarities to the image's key and to a queue, a mean over images.

    Equations 3 to 6 of https://arxiv.org/abs/2104.07713, which leave out the entropy of p(.|weak): no gradient flows into it.

    Args:
        strong_BD, weak_BD: queries of the strongly and of the weakly changed view.
        k_BD: the key of each image.
        queue_KD: unit vectors.
    """
    k = normalize(k_BD.detach(), dim=1)

    def log_p(query_BD: Tensor) -> Tensor:
        q = normalize(query_BD, dim=1)
        return log_softmax(torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue_KD.T], dim=1) / temperature, dim=1)

    return kl_div(log_p(strong_BD), log_p(weak_BD.detach()), reduction="batchmean", log_target=True)
