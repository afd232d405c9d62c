"""Exploring Target Representations for Masked Autoencoders (dBOT). Liu, Zhou, Kong, Lin, Ji, 2022.
https://arxiv.org/abs/2209.03917

As in MAE, but what a decoder tells of the patches that the encoder does not see is a teacher's features. The teacher is frozen, at first
with random weights; at the end of a stage the student becomes the teacher, and a student with random weights begins anew.

Symbols: K, the stages; s, a stage; h_t, the teacher's features; M, the masked patches.

Differs from the paper:
- All stages have the same length, and the schedule of the learning rate, warm-up included, begins with each. A stage begins after the first
  step at or behind its share of the training. The optimizer keeps its moments over that, as in the authors' code; the warm-up is longer.
- Every student begins with the same random weights, kept beside it, that the first teacher has; the authors draw new ones for each.
- The encoder is timm's, with learned or rotary positions, without stochastic depth unless it is asked for.
- A training that ends early has the student of the stage it was in.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import DBOT as DBOTConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.latent import layer_normalised, masked_smooth_l1
from ssl_tasks.measures import spread
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.blocks import patches_after_blocks
from ssl_tasks.nn.decoder import PatchDecoder
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder


class DBOT(Method):
    """Student, teacher, and the weights that every student begins with; the student's encoder is what is exported.

    Attributes:
        masked: patches of an image that are masked, the same number in each.
        stage: s of the newest step, from 0, and -1 before the first.

    Raises:
        UserError: where the encoder cuts the image in a single patch.
    """

    stage: Tensor

    def __init__(self, config: DBOTConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.grid = encoder.grid(encoder.config.image_size)
        if self.grid < 2:
            raise UserError(f"dbot: encoder.image_size {encoder.config.image_size} is a single patch: take a smaller encoder.patch_size")
        self.masked = min(max(round(config.mask_ratio * self.grid**2), 1), self.grid**2 - 1)
        encoder.patches_only()
        widths = config.decoder_width, config.decoder_depth, config.decoder_heads
        self.decoder = PatchDecoder(encoder.width, encoder.prefix_tokens, self.grid, encoder.width, *widths)
        self.teacher = Teacher(encoder)
        self.first_encoder, self.first_decoder = Teacher(encoder), Teacher(self.decoder)
        self.register_buffer("stage", torch.tensor(-1))
        self._known: int | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]  # of torch

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and which of its patches are masked (B, N)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, random_masks(draw, self.grid, counts)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, mask = views
        return {"dbot": masked_smooth_l1(self.predicted(images, mask), self.targets(images), mask, self.config.beta)}

    def predicted(self, images: Tensor, mask: Tensor) -> Tensor:
        """What the student says of every patch, (B, N, width), of which those of visible patches mean nothing."""
        kept = mask.int().argsort(dim=1, stable=True)[:, : self.grid**2 - self.masked]
        said: Tensor = self.decoder(self.encoder.visible(images, kept), kept)
        return said

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """h_t of every patch (B, N, width), normalised over its dimensions."""
        return layer_normalised(patches_after_blocks(cast(TimmEncoder, self.teacher.network), images, 1)[0])

    def after_step(self, progress: float) -> None:
        before = int(self.stage) if self._known is None else self._known  # read once, since that waits for the device
        now = int(progress * self.config.stages + 1e-9)
        if now > before >= 0:
            self._begin_stage()
        if now != before:
            self.stage.fill_(now)
        self._known = now

    @torch.no_grad()
    def _begin_stage(self) -> None:
        self.teacher.follow(self.encoder, 0.0)
        students: tuple[nn.Module, ...] = (self.encoder, self.decoder)
        for student, first in zip(students, (self.first_encoder, self.first_decoder), strict=True):
            for parameter, start in zip(student.parameters(), first.network.parameters(), strict=True):
                parameter.copy_(start)

    def pace(self, progress: float) -> tuple[float, float]:
        """Each stage has the schedule of the learning rate for itself."""
        return progress * self.config.stages % 1.0, 1.0

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How unlike the targets of different patches are: see `measures.spread`."""
        return spread(self.targets(views[0]))


def _forget(method: nn.Module, _: Any) -> None:
    """What is known of the stage is no longer so once a state is loaded."""
    vars(method)["_known"] = None
