"""Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction. Zhang, Isola, Efros, 2016.
https://arxiv.org/abs/1611.09842

An autoencoder that sees half of an image's channels rebuilds the other half, and the other way round, so that copying does not help and
together they have seen everything: colour is told from lightness, lightness from colour.

Symbols: L, a, b, lightness and colour in CIE Lab; X1, X2, the halves of an image; F1, F2, what predicts one from the other.

Differs from the paper:
- F1 and F2 are one encoder, not halves of its channels, so that what is exported is an ordinary encoder of RGB images. It sees X1 as a
  grey image and X2 as an image of the same colours at a lightness of 50, and a head for each tells the other. So no single feature of an image
  is of one half alone, and what is exported is fed with both halves at once, which it never was in training.
- A colour at a lightness of 50 that sRGB has not is shown as the next one on its border, channel by channel.
- Bins of ab are those of `ssl_tasks.data.lab`, 261 and not 313.
- Both are told at the encoder's places, as the mean over each place.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from schemas.methods import SplitBrain as SplitBrainConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.lab import at_places, bins, halves, lab, nearest_bins
from ssl_tasks.data.views import augment, pixels
from ssl_tasks.losses.precision import full_precision
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_places
from ssl_tasks.nn.pixel_decoder import PixelDecoder, grid_of


class SplitBrain(Method):
    """An encoder of both halves, and for each what tells the other of its places.

    Attributes:
        centres: of the bins of a and b, (Q, 2).

    Raises:
        UserError: where the encoder has no square grid of places.
    """

    centres: Tensor

    def __init__(self, config: SplitBrainConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        encoder.patches_only()
        self.grid = grid_of(encoder)
        centres = bins(config.bin)
        self.colour_head = PixelDecoder(encoder.width, config.decoder_width, len(centres))
        self.lightness_head = PixelDecoder(encoder.width, config.decoder_width, config.levels)
        self.register_buffer("centres", centres, persistent=False)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        x1, x2 = self.encoder.tokens(torch.cat(halves(views[0]))).patches.chunk(2)
        colours, levels = self.told(views[0])
        told = full_precision(cross_entropy)
        return {
            "colour": told(as_places(self.colour_head(x1)).flatten(0, 1), colours),
            "lightness": told(as_places(self.lightness_head(x2)).flatten(0, 1), levels),
        }

    def told(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The bins of colour and of lightness of all places, (B * N,) each, one image's after the other."""
        seen = at_places(lab(pixels(images)), self.grid).flatten(0, 1)
        levels = (seen[:, 0] * (self.config.levels / 100)).long().clamp(0, self.config.levels - 1)
        return nearest_bins(seen[:, 1:], self.centres, 1, 1.0)[0][:, 0], levels

    def exported(self) -> nn.Module:
        return self.encoder
