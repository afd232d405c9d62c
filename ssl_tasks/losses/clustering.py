"""SwAV's swapped prediction. Shapes: B samples, K prototypes, D dimensions."""

from torch import Tensor

from ssl_tasks.losses.precision import full_precision
from ssl_tasks.losses.self_distillation import dino


@full_precision
def cosines(z_BD: Tensor, prototypes_KD: Tensor) -> Tensor:
    """Products (B, K) of embeddings and prototypes, both of length 1; half precision would be too coarse for codes at 0.05."""
    return z_BD @ prototypes_KD.T


def swapped_prediction(codes: list[Tensor], logits: list[Tensor], temperature: float) -> Tensor:
    """Cross-entropy of every crop's softmax with the code of every other global crop, a mean over pairs and samples.

    https://arxiv.org/abs/2006.09882, equations 2 and 6. DINO's sum is the same, with a teacher's distributions in the place of codes.

    Args:
        codes: (B, K) of each global crop, without gradient.
        logits: (B, K) of each crop, the global ones first and in the same order.
        temperature: of the softmax.
    """
    return dino(codes, logits, temperature)
