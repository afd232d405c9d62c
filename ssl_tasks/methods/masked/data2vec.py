"""data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language. Baevski, Hsu, Xu, Babu, Gu, Auli, 2022.
https://arxiv.org/abs/2202.03555

A student that sees an image partly masked tells, at the masked patches, what a teacher that sees all of it says there: the mean of its
upper blocks. The teacher is a moving average of the student; that each block is normalised keeps both from agreeing on a constant.

Symbols: y, the target; a^l, what block l of the teacher says; K, the number of blocks; f, the student's prediction; tau, the momentum.

Differs from the paper:
- The encoder is timm's, with learned or rotary positions; the authors' is BEiT's, with relative ones and LayerScale.
- A block of a mask covers four patches at least, and single patches make up the exact number; the authors' covers 16 at least.
- The authors' command for images normalises the mean of the blocks once more.
- Only patches are told, so an encoder that pools by average or attention keeps the norm or attention of its pooling as it started.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import Data2Vec as Data2VecConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import block_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.latent import layer_normalised, masked_smooth_l1
from ssl_tasks.measures import spread
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.blocks import check_blocks, patches_after_blocks
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.schedules import warmed


class Data2Vec(Method):
    """Student with a linear head, and teacher; the student's encoder is what is exported.

    Attributes:
        masked: patches of an image that are masked, the same number in each.

    Raises:
        UserError: where the encoder has fewer blocks than are asked for, or cuts the image in a single patch.
    """

    def __init__(self, config: Data2VecConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        check_blocks(encoder, config.target_blocks, config.kind)
        self.config = config
        self.encoder = encoder
        self.grid = encoder.grid(encoder.config.image_size)
        if self.grid < 2:
            raise UserError(f"data2vec: encoder.image_size {encoder.config.image_size} is a single patch: take a smaller encoder.patch_size")
        self.masked = min(max(round(config.mask_ratio * self.grid**2), 1), self.grid**2 - 1)
        encoder.patches_only()
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.width))
        self.head = nn.Linear(encoder.width, encoder.width)
        self.teacher = Teacher(encoder)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and which of its patches are masked (B, N)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, block_masks(draw, self.grid, counts)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, mask = views
        return {"data2vec": masked_smooth_l1(self.predicted(images, mask), self.targets(images), mask, self.config.beta)}

    def predicted(self, images: Tensor, mask: Tensor) -> Tensor:
        """f of every patch (B, N, width), of which those that are not masked do not count."""
        said: Tensor = self.head(self.encoder.tokens(images, mask, self.mask_token).patches)
        return said

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """y of every patch (B, N, width): the mean of the normalised a^l (equation 3)."""
        blocks = patches_after_blocks(cast(TimmEncoder, self.teacher.network), images, self.config.target_blocks)
        return torch.stack([layer_normalised(block) for block in blocks]).mean(dim=0)

    def after_step(self, progress: float) -> None:
        config = self.config
        self.teacher.follow(self.encoder, warmed(progress, config.momentum, config.momentum_end, config.momentum_warmup))

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How unlike the targets of different patches are: see `measures.spread`."""
        return spread(self.targets(views[0]))
