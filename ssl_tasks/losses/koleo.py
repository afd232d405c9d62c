"""KoLeo. Shapes: N different images, D dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_tasks.losses.precision import full_precision

EPSILON = 1e-8
"""Added to a distance before its logarithm, as in the authors' code: two equal features must not give an infinite loss."""


@full_precision
def koleo(features_ND: Tensor, others_MD: Tensor | None = None, apart_NM: Tensor | None = None) -> Tensor:
    """Kozachenko-Leonenko regulariser: -log of the distance to the nearest other feature, all L2-normalised, a mean over features.

    The lower, the more evenly features lie on the sphere. https://arxiv.org/abs/1806.03198, equation 4. Some texts print it without
    the minus, which pulls neighbours together.

    Args:
        features_ND: of any length, one an image: two views of an image would be each other's neighbour.
        others_MD: features among which the nearest is sought, such as those of all processes; the same where not given.
        apart_NM: which of the others may be a feature's neighbour; where not given, all but itself.
    """
    unit = normalize(features_ND, dim=1)
    others = unit if others_MD is None else normalize(others_MD, dim=1)
    with torch.no_grad():
        likeness = unit @ others.T
        likeness = likeness.fill_diagonal_(-torch.inf) if apart_NM is None else likeness.masked_fill_(~apart_NM, -torch.inf)
        nearest = likeness.argmax(dim=1)
    distances: Tensor = torch.linalg.vector_norm(unit - others[nearest], dim=1)
    return -(distances + EPSILON).log().mean()
