"""Saliency: what stands out from an image by its colour, from the image alone. Shapes: B images, C channels, H x W pixels."""

from torch import Tensor
from torch.nn.functional import avg_pool2d

REACH = 2
"""Pixels to each side that a pixel is blurred over first, so that single ones do not stand out."""
ROUNDING = 1e-4
"""Less than a step of 8 bits by far."""


def foreground(images: Tensor) -> Tensor:
    """Which pixels (B, 1, H, W) are at least as far from their image's mean colour as its pixels are on average.

    Frequency-tuned saliency, https://ieeexplore.ieee.org/document/5206596: the distance of the blurred image from its mean colour. There
    it is measured in Lab, and pixels of twice the mean saliency are kept; here in the images' own colours, and those above the mean, so
    that rather too much is kept. Brightness and contrast of the image do not matter; of a plain image every pixel is kept.
    """
    blurred = avg_pool2d(images, 2 * REACH + 1, stride=1, padding=REACH, count_include_pad=False)
    salient = (blurred - images.mean((2, 3), keepdim=True)).square().sum(1, keepdim=True).sqrt()
    return salient + ROUNDING >= salient.mean((2, 3), keepdim=True)
