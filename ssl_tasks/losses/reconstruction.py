"""How far a rebuilt image is from the image. Shapes: B images, C channels, H rows, W columns."""

import torch
from torch import Tensor

from ssl_tasks.losses.precision import full_precision


@full_precision
def weighted_mse(rebuilt_BCHW: Tensor, images_BCHW: Tensor, weights_HW: Tensor | None = None) -> Tensor:
    """Mean over all pixels of the squared error times the pixel's weight; the weights are not made to add up to anything."""
    errors = (rebuilt_BCHW - images_BCHW).square()
    return (errors if weights_HW is None else weights_HW * errors).mean()


def border(side: int, width: int, weight: float, device: torch.device) -> Tensor:
    """Weights (side, side) of a square whose outer `width` pixels count `weight` times as much as its inside."""
    weights = torch.full((side, side), weight, device=device)
    weights[width : side - width, width : side - width] = 1
    return weights
