"""ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders (FCMAE). Woo, Debnath, Hu, Chen, Liu, Kweon, Xie, 2023.
https://arxiv.org/abs/2301.00808

A masked autoencoder for ConvNets. Most of an image is masked in parts as large as the encoder's stride, and convolutions are sparse: what
is masked stays empty through every layer, so that nothing of it can leak in. A decoder of one block gets a mask token in each gap.

Symbols: x, the pixels of a part, brought to mean 0 and variance 1; x^, the decoder's prediction of them; M, the masked parts.

Differs from the paper:
- Convolutions are dense, over maps that are emptied where masked, which gives what sparse ones give and saves no time, as the paper
  itself offers; its code takes a library of sparse convolutions (`ssl_tasks.nn.sparse`).
- The global response normalisation sees an image's visible places. The sparse one of the authors' code sees those of the whole batch.
- The authors' code adds 2e-7 times the norms of the encoder's weights to the loss; here weight decay is the optimizer's.
- The norm behind the encoder's pooling stays as it started: no part's prediction uses it.
- The crop is resized with a triangle filter, as `ssl_tasks.data.views` does it; the paper's code takes a bicubic one.
"""

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from schemas.methods import FCMAE as FCMAEConfig
from ssl_tasks.data.cells import check_cells, masked_cells
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.masked import masked_mse, standardised
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.inside import stride
from ssl_tasks.nn.patches import patchify


class FCMAE(Method):
    """Encoder and decoder; the encoder is what is exported.

    Attributes:
        stride: side of a part, in pixels: that of the encoder.
        masked: parts of an image that are masked, the same number in each.

    Raises:
        UserError: where the image cannot be cut in parts.
    """

    def __init__(self, config: FCMAEConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size, self.stride = encoder.config.image_size, stride(encoder.backbone)
        check_cells("fcmae", size, self.stride, "the stride of the encoder")
        self.grid = size // self.stride
        self.masked = masked_cells(config.mask_ratio, self.grid**2)
        encoder.patches_only()
        width = config.decoder_width
        self.embed = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.decoder = nn.Sequential(*(ConvNeXtBlock(width, use_grn=True, ls_init_value=None) for _ in range(config.decoder_depth)))
        self.output = nn.Linear(width, encoder.config.channels * self.stride**2)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and which of its parts are masked (B, N)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, random_masks(draw, self.grid, counts)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, mask = views
        target = patchify(images, self.stride)
        if self.config.normalise_target:
            target = standardised(target)
        return {"reconstruction": masked_mse(self.predicted(images, mask), target, mask)}

    def predicted(self, images: Tensor, mask: Tensor) -> Tensor:
        """x^ of every part, (B, N, pixels of a part), of which those of visible parts mean nothing."""
        visible = self.embed(self.encoder.tokens(images, mask).patches)
        everywhere = torch.where(mask[..., None], self.mask_token.to(visible.dtype), visible)
        decoded = self.decoder(everywhere.mT.reshape(len(images), -1, self.grid, self.grid))
        prediction: Tensor = self.output(decoded.flatten(2).mT)
        return prediction

    def exported(self) -> nn.Module:
        return self.encoder
