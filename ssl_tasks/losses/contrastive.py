"""NT-Xent and InfoNCE. Shapes: B anchors of this process, N images of all processes, K rows of a queue, D dimensions.

Embeddings may have any length, they are L2-normalised here.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from ssl_tasks.losses.precision import full_precision


@full_precision
def nt_xent(
    z_BD: Tensor, z_prime_BD: Tensor, temperature: float, candidates: tuple[Tensor, Tensor] | None = None, offset: int = 0, decoupled: bool = False
) -> Tensor:
    """Normalised temperature-scaled cross-entropy: SimCLR's equation 1 averaged over both directions.

    Each of the 2B embeddings must find the other view of its image among the 2N - 1 candidates that are not itself.
    https://arxiv.org/abs/2002.05709

    Args:
        z_BD: embeddings of one view.
        z_prime_BD: embeddings of the other view, in the same order.
        temperature: divides the cosine similarities.
        candidates: embeddings (N, D) of both views over all processes; the anchors themselves where not given.
        offset: row of the first anchor among the candidates.
        decoupled: whether the denominator holds the 2N - 2 negatives alone, so that a pair which is close already pushes as hard as
            any other (DCL, https://arxiv.org/abs/2110.06848); such a loss may be negative.
    """
    anchors = normalize(torch.cat([z_BD, z_prime_BD]), dim=1)
    others = anchors if candidates is None else normalize(torch.cat(candidates), dim=1)
    images = len(others) // 2
    itself = offset + torch.arange(len(z_BD), device=anchors.device)
    itself = torch.cat([itself, itself + images])
    positive = (itself + images) % (2 * images)
    logits = anchors @ others.T / temperature
    left_out = torch.stack([itself, positive], dim=1) if decoupled else itself[:, None]
    denominator = logits.scatter(1, left_out, -torch.inf).logsumexp(dim=1)
    return (denominator - logits.gather(1, positive[:, None])[:, 0]).mean()


@full_precision
def info_nce(z_BD: Tensor, candidates_ND: Tensor, matches_BN: Tensor, itself_B: Tensor, temperature: float) -> Tensor:
    """InfoNCE with several positives: a mean over each anchor's positives, then over anchors. SSCD's, https://arxiv.org/abs/2202.10261

    A positive stands against all that does not match: other positives are left out of its denominator. Where its own term is left out
    too, as some texts print it, the loss has no lower bound.

    Args:
        z_BD: embeddings of this process.
        candidates_ND: embeddings of all processes.
        matches_BN: which candidates share content with each anchor, itself included.
        itself_B: the row of each anchor among the candidates.
        temperature: divides the cosine similarities.
    """
    logits = normalize(z_BD, dim=1) @ normalize(candidates_ND, dim=1).T / temperature
    unlike = logits.masked_fill(matches_BN, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    positives = matches_BN.scatter(1, itself_B[:, None], False)
    losses = softplus(unlike - logits).masked_fill(~positives, 0.0)
    return (losses.sum(dim=1) / positives.sum(dim=1)).mean()


@full_precision
def moco(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor, temperature: float) -> Tensor:
    """InfoNCE of a query with its key against a queue, a mean over queries: equation 1 of https://arxiv.org/abs/1911.05722

    Args:
        q_BD: queries.
        k_BD: the key of each query, its positive.
        queue_KD: unit vectors, the negatives; a key of this batch among them would be positive and negative at once.
    """
    q, k = normalize(q_BD, dim=1), normalize(k_BD, dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue_KD.T], dim=1) / temperature
    return cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


@full_precision
def moco_v3(q_BD: Tensor, keys_ND: Tensor, temperature: float, offset: int = 0) -> Tensor:
    """InfoNCE of queries of one view with keys of the other, times twice the temperature, a mean over queries.

    Algorithm 1 of https://arxiv.org/abs/2104.02057, `ctr`; the loss of a pair of views is the sum of both directions. The factor
    keeps gradients of one size whatever the temperature is.

    Args:
        q_BD: queries of this process.
        keys_ND: keys of all processes, in the order of their images; those of other images are the negatives.
        offset: row of the first query's key.
    """
    logits = normalize(q_BD, dim=1) @ normalize(keys_ND, dim=1).T / temperature
    return 2 * temperature * cross_entropy(logits, offset + torch.arange(len(q_BD), device=logits.device))
