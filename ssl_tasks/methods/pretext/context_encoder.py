"""Context Encoders: Feature Learning by Inpainting. Pathak, Kraehenbuehl, Donahue, Darrell, Efros, 2016.
https://arxiv.org/abs/1604.07379

The middle of an image is hidden, and painted from what surrounds it, which asks what the image shows. The squared error alone paints the
mean of all that could be there, a blur; a discriminator that tells painted middles from real ones asks for one of them.

Symbols: x, the middle of an image; x^, what is painted; D, the discriminator; F, encoder and decoder.

Differs from the paper:
- The middle is always hidden; the paper's features for transfer are of hidden regions of random shape, without discriminator.
- Encoder and decoder are joined by the paper's channel-wise layer, each channel's places to each of the middle's, over any encoder.
- D's gradient and F's come from one backward pass of one loss, and both take one step together, by one optimizer and learning rate; the paper's F
  has a rate ten times D's. F maximises log D rather than minimising log(1 - D), as the authors' code does.
- Pixels are normalised and not brought into [-1, 1] by a tanh; the hidden ones are the channels' mean of ImageNet.
"""

import math

from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import ContextEncoder as ContextEncoderConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.adversarial import discriminator, generator
from ssl_tasks.losses.reconstruction import border, weighted_mse
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.discriminator import Discriminator
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import resampled
from ssl_tasks.nn.pixel_decoder import Everywhere, PixelDecoder, doublings, grid_of

SMALLEST = 8


class ContextEncoder(Method):
    """Encoder, decoder and discriminator; the encoder is what is exported.

    Attributes:
        side: of the square that is painted, half an image's, in pixels.
        start: of that square in the image, along each axis.
        overlap: pixels of it at each border that are seen.

    Raises:
        UserError: where the image is too small to have a middle, or the encoder has no square grid of places.
    """

    def __init__(self, config: ContextEncoderConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size, channels = encoder.config.image_size, encoder.config.channels
        if size < SMALLEST:
            raise UserError(f"context_encoder: encoder.image_size {size} is too small to hide its middle: set it to {SMALLEST} or more")
        encoder.patches_only()
        self.side = size // 2
        self.start = (size - self.side) // 2
        self.overlap = min(math.ceil(config.overlap * self.side), (self.side - 1) // 2)
        grid = grid_of(encoder)
        inner = math.ceil(grid / 2)
        self.join = Everywhere(encoder.width, config.decoder_width, grid**2, inner**2)
        self.decoder = PixelDecoder(config.decoder_width, config.decoder_width, channels, doublings(inner, self.side))
        self.discriminator = Discriminator(channels, self.side, config.discriminator_width)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        real, painted = self._cut(views[0], 0), self.painted(views[0])
        weights = border(self.side, self.overlap, self.config.overlap_weight, real.device)
        detached = self.discriminator(painted.detach())
        return {
            "reconstruction": (1 - self.config.adversarial) * weighted_mse(painted, real, weights),
            "adversarial": self.config.adversarial * generator(self.discriminator(painted), detached),
            "discriminator": discriminator(self.discriminator(real), detached),
        }

    def painted(self, images: Tensor) -> Tensor:
        """x^, (B, C, side, side), of images whose middle is hidden here."""
        hidden = images.clone()
        self._cut(hidden, self.overlap).zero_()
        places = self.join(self.encoder.tokens(hidden).patches)
        return resampled(self.decoder(places), (self.side, self.side))

    def exported(self) -> nn.Module:
        return self.encoder

    def _cut(self, images: Tensor, border: int) -> Tensor:
        """The middle of images, less a border."""
        inside = slice(self.start + border, self.start + self.side - border)
        return images[:, :, inside, inside]
