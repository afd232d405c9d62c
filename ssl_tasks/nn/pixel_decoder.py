"""PixelDecoder: what an encoder says of places becomes an image, or something said of each place; thrown away after training.

Shapes: B images, N places of a square grid, row by row.
"""

import math

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_map

NARROWEST = 16


class PixelDecoder(nn.Module):
    """A convolution, then transposed ones that double the grid and halve the width each, with batch norm and ReLU; a 1x1 convolution at the end.

    As in https://arxiv.org/abs/1604.07379, section 3.1, "Decoder"
    """

    def __init__(self, encoder_width: int, width: int, outputs: int, doublings: int = 0) -> None:
        """
        Args:
            encoder_width: of what is said of a place.
            width: after the first convolution.
            outputs: numbers that are said of a pixel, or of a place where nothing is doubled.
        """
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(encoder_width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        for _ in range(doublings):
            narrower = max(width // 2, min(width, NARROWEST))
            layers += [nn.ConvTranspose2d(width, narrower, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(narrower), nn.ReLU(inplace=True)]
            width = narrower
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, outputs, 1))

    def forward(self, places: Tensor) -> Tensor:
        """A map (B, outputs, H, W) of places (B, N, encoder_width)."""
        said: Tensor = self.layers(as_map(places))
        return said


class Everywhere(nn.Module):
    """Lets each of n places see all N: a linear layer to another width, then for each channel one from its N places to n.

    The channel-wise fully connected layer of https://arxiv.org/abs/1604.07379, section 3.1
    """

    def __init__(self, encoder_width: int, width: int, places: int, wanted: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(encoder_width, width)
        self.weight = nn.Parameter(torch.empty(width, places, wanted).uniform_(-1, 1) / places**0.5)

    def forward(self, places: Tensor) -> Tensor:
        """Places (B, n, width) of places (B, N, encoder_width)."""
        return torch.einsum("bnc,cnm->bmc", self.narrow(places).relu(), self.weight)


def doublings(grid: int, size: int) -> int:
    """How often a grid can be doubled without becoming larger than `size`."""
    return max(0, int(math.log2(size / grid)))


def grid_of(encoder: TimmEncoder) -> int:
    """Places along a side of an image of the encoder's size, found by looking at a black one in eval mode.

    Raises:
        UserError: where what comes out is no square grid of places.
    """
    config, training = encoder.config, encoder.training
    device = next(encoder.parameters()).device
    with torch.no_grad():
        patches = encoder.eval().tokens(torch.zeros(1, config.channels, config.image_size, config.image_size, device=device)).patches
    encoder.train(training)
    side = math.isqrt(patches.shape[1])
    if side**2 != patches.shape[1] or patches.shape[2] != encoder.width:
        raise UserError(f"encoder '{config.name}' says nothing of places of a square grid, of which this method tells something: take another encoder")
    return side
