"""Extracting and Composing Robust Features with Denoising Autoencoders. Vincent, Larochelle, Bengio, Manzagol, 2008.
Stacked Denoising Autoencoders. Vincent, Larochelle, Lajoie, Bengio, Manzagol, 2010. https://www.jmlr.org/papers/v11/vincent10a.html

An image is corrupted, and rebuilt as it was. A copy would rebuild the corruption too: what is seen must be filled in and put right by what
images are like.

Symbols: x, an image; x~, a corrupted copy of it; v, the share of its pixels that are masked; z, the image as it is rebuilt.

Differs from the papers:
- Encoder and decoder are deep and trained at once, not stacked layer by layer; the decoder has no weights of the encoder's.
- A pixel is masked or made black or white in all its channels, and masked pixels are the channels' mean of ImageNet; the papers' images
  have one channel, and 0 for what is masked.
- Squared error over all pixels, a mean; what was corrupted has no weight of its own (2010, "emphasised"), and there is no cross-entropy.
"""

import torch
from torch import Tensor, nn

from schemas.methods import DenoisingAutoencoder as DenoisingAutoencoderConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment, normalise, pixels
from ssl_tasks.losses.reconstruction import weighted_mse
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import resampled
from ssl_tasks.nn.pixel_decoder import PixelDecoder, doublings, grid_of


class DenoisingAutoencoder(Method):
    """Encoder and decoder; the encoder is what is exported.

    Raises:
        UserError: where the encoder has no square grid of places.
    """

    def __init__(self, config: DenoisingAutoencoderConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        encoder.patches_only()
        size, channels = encoder.config.image_size, encoder.config.channels
        self.decoder = PixelDecoder(encoder.width, config.decoder_width, channels, doublings(grid_of(encoder), size))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """x, one crop of each image, and x~."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        return [*crops, self.corrupted(crops[0], draw)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        clean, corrupted = views
        return {"reconstruction": weighted_mse(self.rebuilt(corrupted), clean)}

    def corrupted(self, images: Tensor, draw: Draw) -> Tensor:
        """x~ of normalised images."""
        channels, *sides = images.shape[1:]
        if self.config.noise == "gaussian":
            return normalise(pixels(images) + self.config.sigma * draw.normals(channels, *sides))
        drawn = draw.uniforms(1, *sides)
        if self.config.noise == "masking":
            return images.masked_fill(drawn < self.config.share, 0)
        white = (drawn < self.config.share / 2).to(images.dtype)
        return torch.where(drawn < self.config.share, normalise(white.expand_as(images)), images)

    def rebuilt(self, images: Tensor) -> Tensor:
        """z of corrupted images."""
        return resampled(self.decoder(self.encoder.tokens(images).patches), (images.shape[2], images.shape[3]))

    def exported(self) -> nn.Module:
        return self.encoder
