"""Changes of colour of a whole batch at once, every sample by its own factor; each equals torchvision's function of the same name.

Pixels lie in [0, 1] and are clamped to it after each change. Images of other than 3 channels have no saturation and no hue, and
are as bright as the mean of their channels.
"""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Images (B, C, H, W) times a factor (B,)."""
    return (x * _each(factor)).clamp_(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Images whose distance from their mean grey is multiplied by a factor (B,)."""
    return _blend(x, luma(x).mean((1, 2, 3), keepdim=True), _each(factor))


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """RGB images whose pixels' distance from grey is multiplied by a factor (B,)."""
    return _blend(x, luma(x), _each(factor))


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """RGB images whose hue is moved around HSV's circle by turns (B,), 1 being all the way round.

    In HSV a channel is min + range * ramp(d), where d is how far the hue is from the opposite of that channel, in sixths of the
    circle, and ramp rises from 0 at 1 to 1 at 2: https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    """
    red, green, blue = x.unbind(1)
    high, low = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    spread = high - low
    scale = (6 * spread).clamp_(min=1e-8).reciprocal_()
    by_red, by_green, by_blue = (green - blue).mul_(scale), (blue - red).mul_(scale).add_(1 / 3), (red - green).mul_(scale).add_(2 / 3)
    # Selected by numbers that are 0 or 1: on a CPU several times as fast as `where`.
    hue = by_red.lerp_(by_green.lerp_(by_blue, (high - green).sign_()), (high - red).sign_())
    opposite = torch.tensor([0.5, 5 / 6, 1 / 6], device=x.device).view(1, 3, 1, 1)
    away = hue[:, None] + (_each(turn) - opposite)
    ramp = away.sub_(away.round()).abs_().mul_(6).sub_(1).clamp_(0, 1)
    return ramp.mul_(spread[:, None]).add_(low[:, None])


def rgb_to_grayscale(x: Tensor) -> Tensor:
    """RGB images, grey in each channel."""
    return luma(x).expand_as(x)


def solarize(x: Tensor) -> Tensor:
    """Images whose pixels from 0.5 on are inverted."""
    return torch.minimum(x, 1 - x)


def luma(x: Tensor) -> Tensor:
    """Brightness (B, 1, H, W) as it is seen; the mean of the channels where they are not RGB."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    red, green, blue = (x[:, i : i + 1] for i in range(3))
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (x * factor).add_(other * (1 - factor)).clamp_(0, 1)


def _each(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)
