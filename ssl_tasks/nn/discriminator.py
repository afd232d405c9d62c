"""Discriminator: is a square image real?"""

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Convolutions of stride 2 that halve the image and double the width, down to less than 8 pixels a side; then one number.

    As in https://arxiv.org/abs/1511.06434: batch norm in all but the first, leaky ReLU, no pooling.
    """

    def __init__(self, channels: int, side: int, width: int) -> None:
        """
        Args:
            side: of the images, in pixels; 2 or more.
            width: of the first convolution.
        """
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        side //= 2
        while side >= 8:
            layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, inplace=True)]
            side, width = side // 2, 2 * width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, side))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of being real."""
        said: Tensor = self.layers(images)
        return said.flatten()
