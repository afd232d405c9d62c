"""CPC's InfoNCE. Shapes: P predictions of this process, N latents of all processes, D dimensions."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from ssl_tasks.losses.precision import full_precision


@full_precision
def cpc(predictions_PD: Tensor, latents_ND: Tensor, positives_P: Tensor) -> Tensor:
    """Cross-entropy of telling the latent that was predicted from all others, a mean over predictions.

    Equation 4 of https://arxiv.org/abs/1807.03748, with the scores of equation 3: plain products, neither normalised nor tempered. The
    mutual information of context and latent is at least ln N less this (appendix A.1).

    Args:
        predictions_PD: W_k c, what the context says of a latent.
        latents_ND: of every place of every image; all but one are negatives.
        positives_P: the row of each prediction's own latent.
    """
    return cross_entropy(predictions_PD @ latents_ND.T, positives_P)
