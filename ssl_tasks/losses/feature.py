"""Feature regression. Shapes: B samples, D dimensions."""

from torch import Tensor
from torch.nn.functional import cosine_similarity

from ssl_tasks.losses.precision import full_precision


@full_precision
def cosine_distance(predicted_BD: Tensor, target_BD: Tensor) -> Tensor:
    """1 - cosine of the angle between prediction and target, a mean over samples; lengths play no part."""
    return 1 - cosine_similarity(predicted_BD, target_BD, dim=-1).mean()
