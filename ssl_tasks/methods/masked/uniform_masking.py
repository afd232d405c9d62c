"""Uniform Masking: Enabling MAE Pre-training for Pyramid-based Vision Transformers with Locality (UM-MAE). Li, Wang, Zhang, Wang, Yang, Li, 2022.
https://arxiv.org/abs/2205.10063

Of every 2 x 2 patches one is kept, at random, so that every window of a pyramid encoder has as many; put together they are a dense image of
half the side, which it takes as it is. As neighbours give too much away, a mask token stands for some of those kept. A light decoder
gets what the encoder says of the kept patches and a mask token in each gap, and predicts the pixels of what was left out.

Symbols: x, the pixels of a patch, brought to mean 0 and variance 1; x^, the decoder's prediction of them; M, the patches left out.

Differs from the paper:
- The encoder is timm's Swin: it takes the smaller image by itself, and its relative positions are those within it, where the authors'
  Swin tells them from where patches were in the whole image.
- Windows keep the size that the encoder has; the authors' are half as large as in fine-tuning. A window larger than the map of a stage,
  as in the last one of 224 px, is filled up with empty places.
- Where the smaller image is no whole number of strides (7 patches of 16 px, of 224), Swin fills it up, and what is beyond it is cut off.
- A patch is as large as half the encoder's stride, which is the paper's 16 px for a stride of 32.
- Each kept patch is drawn for itself; the authors' code shuffles a list in which each of the four places stands as often.
- One more linear layer stands before the decoder, and its mask token for kept patches is learned after the norm of the patch embedding.
- The crop is resized with a triangle filter, as `ssl_tasks.data.views` does it; the paper's code takes a bicubic one.
"""

import torch
from torch import Tensor, nn

from schemas.methods import UniformMasking as UniformMaskingConfig
from ssl_tasks.data.cells import check_cells, finer
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.masked import masked_mse, standardised
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.decoder import PatchDecoder
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.inside import stride
from ssl_tasks.nn.patches import patchify, unpatchify


class UniformMasking(Method):
    """Encoder, mask token and decoder; the encoder is what is exported.

    Attributes:
        patch: side of a patch that is kept or left out, in pixels.
        grid: kept patches along a side, one of every two.
        masked: kept patches that a mask token stands for, the same number in each image.

    Raises:
        UserError: where the image cannot be cut in squares of 2 x 2 patches.
    """

    def __init__(self, config: UniformMaskingConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size, whole = encoder.config.image_size, stride(encoder.backbone)
        self.patch = max(whole // 2, encoder.patch)
        check_cells("uniform_masking", size, 2 * self.patch, "two patches wide")
        self.grid = size // (2 * self.patch)
        self.masked = min(round(config.visible_mask_ratio * self.grid**2), self.grid**2 - 1)
        self.parts = whole // self.patch
        pixels, width = encoder.config.channels * self.patch**2, config.decoder_width
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.backbone.embed_dim))
        self.expand = nn.Linear(encoder.width, self.parts**2 * width)
        self.decoder = PatchDecoder(width, 0, 2 * self.grid, pixels, width, config.decoder_depth, config.decoder_heads)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image; which patch of each four is kept, by its number (B, N / 4); and which of these are masked."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        corner = (4 * draw.uniforms(self.grid**2)).long()
        square = torch.arange(self.grid**2, device=images.device)
        row, column = 2 * (square // self.grid) + corner // 2, 2 * (square % self.grid) + corner % 2
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, 2 * self.grid * row + column, random_masks(draw, self.grid, counts)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, kept, hidden = views
        target = patchify(images, self.patch)
        left_out = torch.ones(target.shape[:2], dtype=torch.bool, device=images.device).scatter(1, kept, False)
        if self.config.normalise_target:
            target = standardised(target)
        return {"reconstruction": masked_mse(self.predicted(images, kept, hidden), target, left_out)}

    def smaller(self, images: Tensor, kept: Tensor) -> Tensor:
        """The kept patches put together, (B, C, S / 2, S / 2)."""
        patches = patchify(images, self.patch)
        return unpatchify(patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[2])), self.patch, images.shape[1])

    def predicted(self, images: Tensor, kept: Tensor, hidden: Tensor) -> Tensor:
        """x^ of every patch, (B, N, pixels of a patch), of which those of kept patches mean nothing."""
        places = self.encoder.tokens(self.smaller(images, kept), finer(hidden, self.patch // self.encoder.patch), self.mask_token).patches
        expanded = unpatchify(self.expand(places), self.parts, self.config.decoder_width)
        prediction: Tensor = self.decoder(expanded[..., : self.grid, : self.grid].flatten(2).mT, kept)
        return prediction

    def exported(self) -> nn.Module:
        return self.encoder
