"""Efficient Self-supervised Learning with Contextualized Target Representations for Vision, Speech and Language (data2vec 2.0). Baevski,
Babu, Hsu, Auli, 2022. https://arxiv.org/abs/2212.07525

As in data2vec, a student tells what a teacher that sees everything says of masked patches. But its encoder sees the others alone, a
light decoder of convolutions fills the gaps, and one pass of the teacher serves several masks of the same image.

Symbols: M, masks of an image; K, the teacher's blocks that are averaged; y, the targets; tau, the teacher's momentum.

Differs from the paper:
- What stands for a masked patch in the decoder is learned; the authors take noise of standard deviation 0.01.
- A target is the mean of what whole blocks give, after their residual connection; the authors take that of their MLPs, before it.
- Masks leave exactly as many patches as was asked for; the authors draw more or fewer blocks, by 7%, and cut to a common number.
- The loss is a mean over a patch's dimensions; the authors' is a sum over their root, larger by that root (28 for ViT-B).
- The encoder is timm's; the authors' puts norms behind the residual connections.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import Data2Vec2 as Data2Vec2Config
from ssl_tasks.data.blocks import all_but_blocks
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.latent import instance_normalised, layer_normalised, squared
from ssl_tasks.losses.masked import masked_mse
from ssl_tasks.measures import spread
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.blocks import check_blocks, patches_after_blocks
from ssl_tasks.nn.conv_decoder import ConvDecoder
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.schedules import warmed


class Data2Vec2(Method):
    """Student with a decoder, and teacher; the student's encoder is what is exported.

    Attributes:
        masked: patches of an image that are masked, the same number in each mask.

    Raises:
        UserError: where the encoder has fewer blocks than are asked for, cuts the image in a single patch, has no CLS token to train, or
            is of a width that the decoder's groups do not divide.
    """

    def __init__(self, config: Data2Vec2Config, encoder: TimmEncoder) -> None:
        super().__init__()
        check_blocks(encoder, config.target_blocks, config.kind)
        self.config = config
        self.encoder = encoder
        self.grid = encoder.grid(encoder.config.image_size)
        if self.grid < 2:
            raise UserError(f"data2vec2: encoder.image_size {encoder.config.image_size} is a single patch: take a smaller encoder.patch_size")
        if config.cls_weight and getattr(encoder.backbone, "cls_token", None) is None:
            raise UserError(f"data2vec2: encoder '{encoder.config.name}' has no CLS token, which method.cls_weight trains: set it to 0")
        if encoder.width % config.decoder_groups:
            raise UserError(f"data2vec2: method.decoder_groups {config.decoder_groups} does not divide the encoder's width {encoder.width}")
        self.masked = min(max(round(config.mask_ratio * self.grid**2), 1), self.grid**2 - 1)
        encoder.patches_only()
        self.decoder = ConvDecoder(encoder.width, config.decoder_width, config.decoder_depth, config.decoder_kernel, config.decoder_groups)
        self.teacher = Teacher(encoder)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and M masks of it (B, M, N), true where a patch is masked."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        return [*crops, all_but_blocks(draw, self.grid, self.masked, self.config.masks)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, masks = views
        predicted, cls = self.predicted(images, masks)
        target = self.targets(images)
        each = target.repeat_interleave(masks.shape[1], dim=0)
        terms = {"data2vec": masked_mse(predicted, each, masks.flatten(0, 1))}
        if self.config.cls_weight:
            terms["cls"] = self.config.cls_weight * squared(cls, each.mean(dim=1))
        return terms

    def predicted(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """What is said of every patch (B * M, N, width), and the student's first token (B * M, width), an image's masks one after the other."""
        kept = masks.flatten(0, 1).int().argsort(dim=1, stable=True)[:, : self.grid**2 - self.masked]
        tokens = self.encoder.visible(images.repeat_interleave(masks.shape[1], dim=0), kept)
        return self.decoder(tokens[:, self.encoder.prefix_tokens :], kept, self.grid), tokens[:, 0]

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """y of every patch (B, N, width): blocks normalised over an image's patches, their mean over a patch's dimensions."""
        blocks = patches_after_blocks(cast(TimmEncoder, self.teacher.network), images, self.config.target_blocks)
        return layer_normalised(torch.stack([instance_normalised(block) for block in blocks]).mean(dim=0))

    def after_step(self, progress: float) -> None:
        config = self.config
        self.teacher.follow(self.encoder, warmed(progress, config.momentum, config.momentum_end, config.momentum_warmup))

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How unlike the targets of different patches are: see `measures.spread`."""
        return spread(self.targets(views[0]))
