"""Masked Feature Prediction for Self-Supervised Visual Pre-Training (MaskFeat). Wei, Fan, Xie, Wu, Yuille, Feichtenhofer, 2021.
https://arxiv.org/abs/2112.09133

Blocks of an image's patches are replaced by a mask token, and one linear layer over the encoder's tokens tells what gradients the masked
patches have: the histogram of oriented gradients (HOG) of each cell, which is made by hand and is blind to contrast.

Symbols: h, the histograms of a patch's cells, of each channel its own; h^, what is told of them; M, the masked patches.

Differs from the paper:
- For images only, with a plain ViT; the paper's main model is a video MViT.
- The authors' code leaves the encoder's last norm out; it is part of the encoder here.
- Where a block of masks would go beyond 40% it is left out, and single patches fill up to that number (`ssl_tasks.data.masks`); the
  authors' smallest block is a fifth of what is masked, ours is four patches.
- Of patches smaller than a cell, as small images need, a cell is one patch.
- The crop is resized with a triangle filter, as `ssl_tasks.data.views` does it; the paper's code takes a bicubic one.
"""

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import MaskFeat as MaskFeatConfig
from ssl_tasks.data.cells import check_cells
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.hog import BINS, hog
from ssl_tasks.data.masks import block_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.masked import masked_mse
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.patches import patchify


class MaskFeat(Method):
    """Encoder, mask token and linear layer; the encoder is what is exported.

    Attributes:
        cell: side of a cell of the histograms, in pixels.
        masked: patches of an image that are masked, the same number in each.

    Raises:
        UserError: where the image is a single patch, or a patch no whole number of cells.
    """

    def __init__(self, config: MaskFeatConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size, patch = encoder.config.image_size, encoder.patch
        check_cells("maskfeat", size, patch, "the encoder's patch")
        self.cell = min(config.cell, patch)
        if patch % self.cell:
            near = next(side for side in range(self.cell, 0, -1) if patch % side == 0)
            raise UserError(f"maskfeat: method.cell {self.cell} does not divide the encoder's patch of {patch} px: set it to a divisor, such as {near}")
        self.grid = encoder.grid(size)
        self.masked = min(max(round(config.mask_ratio * self.grid**2), 1), self.grid**2 - 1)
        encoder.patches_only()
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.backbone.embed_dim))
        self.output = nn.Linear(encoder.width, (patch // self.cell) ** 2 * encoder.config.channels * BINS)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and which of its patches are masked (B, N)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, block_masks(draw, self.grid, counts)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, mask = views
        predicted = self.output(self.encoder.tokens(images, mask, self.mask_token).patches)
        return {"hog": masked_mse(predicted, self.target(images), mask)}

    def target(self, images: Tensor) -> Tensor:
        """h of every patch, (B, N, cells of a patch * C * 9)."""
        return patchify(hog(images, self.cell), self.encoder.patch // self.cell)

    def exported(self) -> nn.Module:
        return self.encoder
