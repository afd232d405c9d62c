"""KoLeo. Shapes: N different images, D dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_tasks.losses.precision import full_precision

EPSILON = 1e-8
"""Added to a distance before its logarithm, as in the authors' code: two equal features must not give an infinite loss."""


@full_precision
def koleo(features_ND: Tensor) -> Tensor:
    """Kozachenko-Leonenko regulariser: -log of the distance to the nearest other feature, all L2-normalised, a mean over features.

    The lower, the more evenly features lie on the sphere. https://arxiv.org/abs/1806.03198, equation 4. Some texts print it without
    the minus, which pulls neighbours together.

    Args:
        features_ND: of any length, one an image: two views of an image would be each other's neighbour.
    """
    unit = normalize(features_ND, dim=1)
    with torch.no_grad():
        nearest = (unit @ unit.T).fill_diagonal_(-torch.inf).argmax(dim=1)
    distances: Tensor = torch.linalg.vector_norm(unit - unit[nearest], dim=1)
    return -(distances + EPSILON).log().mean()
