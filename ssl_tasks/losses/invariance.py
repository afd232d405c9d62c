"""ReLIC's two terms, on whom an embedding believes to see. Shapes: B embeddings of this process, N images of all processes, D dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, nll_loss, normalize

from ssl_tasks.losses.precision import full_precision


@full_precision
def beliefs(z_BD: Tensor, targets_ND: Tensor, temperature: float) -> Tensor:
    """Log of the softmax (B, N) of cosine similarities over all targets: which of the images each embedding is taken for.

    Args:
        z_BD: embeddings of the online network, of any length.
        targets_ND: embeddings of the target network, one an image, of any length.
        temperature: divides the cosine similarities.
    """
    return log_softmax(normalize(z_BD, dim=1) @ normalize(targets_ND, dim=1).T / temperature, dim=1)


@full_precision
def contrast(log_p_BN: Tensor, offset: int = 0) -> Tensor:
    """-log p of the own image, a mean over embeddings: InfoNCE.

    Args:
        log_p_BN: beliefs.
        offset: number of the first embedding's image among those of all processes.
    """
    return nll_loss(log_p_BN, offset + torch.arange(len(log_p_BN), device=log_p_BN.device))


@full_precision
def invariance(query_BN: Tensor, reference_BN: Tensor) -> Tensor:
    """KL(query || sg reference) of whole beliefs, a mean over embeddings.

    Of the own image's entry alone, as ReLIC's equation 4 is often printed, its gradient would be that of `contrast`: a larger weight of
    it, and no invariance. Equation 5 of https://arxiv.org/abs/2201.05119 sums over all entries.
    """
    return kl_div(reference_BN.detach(), query_BN, reduction="batchmean", log_target=True)
