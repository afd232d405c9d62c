"""Masked Autoencoders Are Scalable Vision Learners (MAE). He, Chen, Xie, Li, Dollar, Girshick, 2021.
https://arxiv.org/abs/2111.06377

Most patches of an image are dropped at random, and the encoder sees the others alone, so that its cost falls with them. A light decoder
gets their tokens and a mask token in each gap, and predicts the pixels of what is missing.

Symbols: x, the pixels of a patch, brought to mean 0 and variance 1; x^, the decoder's prediction of them; M, the masked patches.

Differs from the paper:
- The encoder is timm's: its positions are learned or rotary where the paper's are fixed sines and cosines, and its weights start as timm
  starts them. Of an encoder that has registers or a distillation token, the decoder sees these too, as it sees the CLS token.
- The target is made of the normalised view; `normalise_target` takes every patch's own mean and spread out of it again, so that only
  what is added to the variance, 1e-6, has another weight.
- The crop is resized with a triangle filter, as `ssl_tasks.data.views` does it; the paper's code takes a bicubic one.
- An encoder that pools by average or attention keeps the norm or attention of its pooling as it started: no patch's prediction uses it.
"""

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import MAE as MAEConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.masked import masked_mse, standardised
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.decoder import PatchDecoder
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.patches import patchify


class MAE(Method):
    """Encoder and decoder; the encoder is what is exported.

    Attributes:
        masked: patches of an image that are masked, the same number in each.

    Raises:
        UserError: where the encoder cuts the image in fewer than two patches.
    """

    def __init__(self, config: MAEConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size = encoder.config.image_size
        self.grid = encoder.grid(size)
        if self.grid < 2:
            raise UserError(f"mae: encoder.image_size {size} is a single patch, of which nothing can be masked: take a smaller encoder.patch_size")
        self.masked = min(max(round(config.mask_ratio * self.grid**2), 1), self.grid**2 - 1)
        encoder.patches_only()
        pixels = encoder.config.channels * encoder.patch**2
        self.decoder = PatchDecoder(encoder.width, encoder.prefix_tokens, self.grid, pixels, config.decoder_width, config.decoder_depth, config.decoder_heads)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and which of its patches are masked (B, N)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, random_masks(draw, self.grid, counts)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, mask = views
        target = patchify(images, self.encoder.patch)
        if self.config.normalise_target:
            target = standardised(target)
        return {"reconstruction": masked_mse(self.predicted(images, mask), target, mask)}

    def predicted(self, images: Tensor, mask: Tensor) -> Tensor:
        """x^ of every patch, (B, N, pixels of a patch), of which those of visible patches mean nothing."""
        kept = mask.int().argsort(dim=1, stable=True)[:, : self.grid**2 - self.masked]
        prediction: Tensor = self.decoder(self.encoder.visible(images, kept), kept)
        return prediction

    def exported(self) -> nn.Module:
        return self.encoder
