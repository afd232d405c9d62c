"""Quarter turns of images, by which no pixel changes its value."""

import torch
from torch import Tensor

TURNS = 4


def quarter_turns(images: Tensor) -> Tensor:
    """Square images (B, C, S, S) turned by 0, 90, 180 and 270 degrees counter-clockwise: (4B, C, S, S), turn after turn.

    Flips and transposes alone: what interpolation leaves behind would tell the turn.
    """
    return torch.cat([images, images.mT.flip(2), images.flip(2, 3), images.flip(2).mT])


def turns_of(images: Tensor) -> Tensor:
    """By how many quarters each of the `quarter_turns` of images (B, ...) is turned, (4B,)."""
    return torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
