"""SimMIM: A Simple Framework for Masked Image Modeling. Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, 2021.
https://arxiv.org/abs/2111.09886

Large cells of an image are masked at random: after the patch embedding, a learned mask token stands for each patch in them, and the
encoder, a ViT or a Swin, sees the whole grid. One linear layer over its last feature map tells the pixels.

Symbols: x, the pixels of a place of the last feature map; x^, what is told of them; M, the masked places.

Differs from the paper:
- The encoder is timm's: a ViT has learned absolute positions and a CLS token, where the paper's has relative ones and none.
- Where no `cell` is stated, its side follows the image: about a seventh, which is the paper's 32 px for 224 and for 192 px.
- The crop is resized with a triangle filter, as `ssl_tasks.data.views` does it; the paper's code takes a bicubic one.
"""

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import SimMIM as SimMIMConfig
from ssl_tasks.data.cells import cell_side, check_cells, finer, masked_cells
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.masked import masked_l1
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.inside import stride
from ssl_tasks.nn.patches import patchify


class SimMIM(Method):
    """Encoder, mask token and linear layer; the encoder is what is exported.

    Attributes:
        stride: pixels from one place of the last feature map to the next.
        cell: side of what is masked whole, in pixels.
        masked: cells of an image that are masked, the same number in each.

    Raises:
        UserError: where the image cannot be cut in cells, or cells not in places.
    """

    def __init__(self, config: SimMIMConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.size, self.stride = encoder.config.image_size, stride(encoder.backbone)
        check_cells("simmim", self.size, self.stride, "the stride of the encoder")
        nearest = cell_side(self.size, self.stride)
        self.cell = config.cell or nearest
        if self.cell % self.stride or self.size % self.cell or self.size == self.cell:
            raise UserError(
                f"simmim: method.cell {self.cell} is not a multiple of {self.stride} px, the stride of the encoder, that cuts encoder.image_size "
                f"{self.size} in several parts: leave it out, or set it to such as {nearest}"
            )
        self.masked = masked_cells(config.mask_ratio, (self.size // self.cell) ** 2)
        encoder.patches_only()
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.backbone.embed_dim))
        self.output = nn.Linear(encoder.width, encoder.config.channels * self.stride**2)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and which of its cells are masked (B, cells)."""
        crops = augment(self.config.views, images, self.size, draw)
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, random_masks(draw, self.size // self.cell, counts)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, cells = views
        target, mask = patchify(images, self.stride), finer(cells, self.cell // self.stride)
        return {"reconstruction": masked_l1(self.predicted(images, cells), target, mask)}

    def predicted(self, images: Tensor, cells: Tensor) -> Tensor:
        """x^ of every place, (B, N, pixels of a place), of which those of visible places mean nothing."""
        patches = finer(cells, self.cell // self.encoder.patch)
        prediction: Tensor = self.output(self.encoder.tokens(images, patches, self.mask_token).patches)
        return prediction

    def exported(self) -> nn.Module:
        return self.encoder
