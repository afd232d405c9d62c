"""Colorful Image Colorization. Zhang, Isola, Efros, 2016.
https://arxiv.org/abs/1603.08511

The encoder sees the lightness of an image and tells the colour of each place, which asks what is seen there. As a thing may have several
colours, whose mean nothing has, colours are told as a distribution over bins; and as most of the world is dull, rare colours weigh more.

Symbols: L, a, b, lightness and colour in CIE Lab; Q, bins of a and b; Z, a colour's shares of its nearest bins; v, the weight of a bin;
p, the bins' frequencies; lambda, the uniform distribution's part in them; T, the temperature of the annealed mean.

Differs from the paper:
- 261 bins of side 10 and not 313: all that hold a colour of sRGB, D65, of all 16.7 million of 8 bits. No reading of the gamut that was tried
  gives 313: bins whose centre can be shown are 229, those that its convex hull touches 268. A sixth of 313 could only ever be a neighbour.
- Colours are told at the encoder's places, as the mean over each, and not at a quarter of the image's resolution.
- p is the mean over all batches seen so far, of the user's own images, where the paper measures it on ImageNet beforehand.
- The loss is a mean over places, the paper's a sum.
- The encoder is any, of three channels that all show lightness, and what is exported sees lightness alone too (`encoder.sees`).
- Weights start at random; the paper's transfer results start from k-means (https://arxiv.org/abs/1511.06856).
"""

import torch
from torch import Tensor, nn

from schemas.methods import Colorization as ColorizationConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.lab import annealed_mean, at_places, bins, lab, nearest_bins, rgb
from ssl_tasks.data.views import augment, pixels
from ssl_tasks.distributed import mean
from ssl_tasks.losses.colour import rebalancing, soft_cross_entropy, spread
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_map, as_places, resampled
from ssl_tasks.nn.pixel_decoder import PixelDecoder, grid_of


class Colorization(Method):
    """An encoder of lightness, and what tells colours of its places.

    Attributes:
        centres: of the bins, (Q, 2).
        smoothing: of frequencies, (Q, Q).
        frequencies: p, (Q,), of all processes' images; uniform before the first batch.
        batches: how many p is the mean of.

    Raises:
        UserError: where the encoder has no square grid of places, or none that could lose its colours.
    """

    centres: Tensor
    smoothing: Tensor
    frequencies: Tensor
    batches: Tensor

    def __init__(self, config: ColorizationConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        encoder.see_lightness()
        encoder.patches_only()
        self.grid = grid_of(encoder)
        centres = bins(config.bin)
        self.head = PixelDecoder(encoder.width, config.decoder_width, len(centres))
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("smoothing", spread(centres, config.sigma), persistent=False)
        self.register_buffer("frequencies", torch.full((len(centres),), 1 / len(centres)))
        self.register_buffer("batches", torch.zeros(()))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        found, shares = self.told(views[0])
        weights = self._weights(found[:, 0])
        logits = as_places(self._logits(views[0])).flatten(0, 1)
        return {"colour": soft_cross_entropy(logits, found, shares, weights)}

    def told(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be told of all places, one image's after the other: the nearest bins (B * N, neighbours), and Z, the shares of these."""
        colours = at_places(lab(pixels(images)), self.grid)[..., 1:]
        return nearest_bins(colours.flatten(0, 1), self.centres, self.config.neighbours, self.config.sigma)

    @torch.no_grad()
    def predicted(self, images: Tensor) -> Tensor:
        """RGB pictures (B, 3, H, W), pixels in [0, 1], of the lightness of normalised images and the colours that are told of it."""
        colours = annealed_mean(as_places(self._logits(images)), self.centres, self.config.temperature)
        seen = lab(pixels(images))
        return rgb(torch.cat([seen[:, :1], resampled(as_map(colours), (images.shape[2], images.shape[3])).to(seen.dtype)], dim=1))

    def exported(self) -> nn.Module:
        return self.encoder

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder.tokens(images).patches)
        return logits

    @torch.no_grad()
    def _weights(self, nearest: Tensor) -> Tensor:
        """v, by the frequencies of all batches with this one."""
        if self.training:
            counts = torch.zeros_like(self.frequencies).scatter_add_(0, nearest, torch.ones_like(nearest, dtype=self.frequencies.dtype))
            self.batches += 1
            self.frequencies.lerp_(mean(counts / len(nearest)), 1 / self.batches)
        return rebalancing(self.frequencies, self.smoothing, self.config.uniform)
