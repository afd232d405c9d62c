"""NT-Xent. Shapes: B anchors images of this process, N images of all processes, D dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ssl_tasks.losses.precision import full_precision


@full_precision
def nt_xent(z_BD: Tensor, z_prime_BD: Tensor, temperature: float, candidates: tuple[Tensor, Tensor] | None = None, offset: int = 0) -> Tensor:
    """Normalised temperature-scaled cross-entropy: SimCLR's equation 1 averaged over both directions.

    Each of the 2B embeddings must find the other view of its image among the 2N - 1 candidates that are not itself.
    https://arxiv.org/abs/2002.05709

    Args:
        z_BD: embeddings of one view, of any length; they are L2-normalised here.
        z_prime_BD: embeddings of the other view, in the same order.
        temperature: divides the cosine similarities.
        candidates: embeddings (N, D) of both views over all processes; the anchors themselves where not given.
        offset: row of the first anchor among the candidates.
    """
    anchors = normalize(torch.cat([z_BD, z_prime_BD]), dim=1)
    others = anchors if candidates is None else normalize(torch.cat(candidates), dim=1)
    images = len(others) // 2
    itself = offset + torch.arange(len(z_BD), device=anchors.device)
    itself = torch.cat([itself, itself + images])
    logits = anchors @ others.T / temperature
    logits = logits.scatter(1, itself[:, None], -torch.inf)
    return cross_entropy(logits, (itself + images) % (2 * images))
