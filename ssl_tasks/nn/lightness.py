"""An encoder that sees lightness alone: images lose their colours at its first convolution, whichever way they come in."""

from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from ssl_tasks.data.lab import grey
from ssl_tasks.data.views import normalise, pixels


def without_colours(backbone: nn.Module, name: str) -> None:
    """Let a timm model of RGB images see each pixel as a grey one that is as light; its weights stay as they are named.

    Raises:
        UserError: where the model has no convolution that images come into.
    """
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3), None)
    if first is None:
        raise UserError(f"encoder.sees lightness: '{name}' has no convolution that RGB images come into; take another encoder")
    first.register_forward_pre_hook(_greyed)


def _greyed(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
    images: Tensor = inputs[0]
    exact = images if images.dtype == torch.float64 else images.float()
    return (normalise(grey(pixels(exact))).to(images.dtype),)
