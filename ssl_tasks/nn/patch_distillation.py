"""PatchDistillation: student and teacher of iBOT and its heirs, which speak of crops and of masked patches in prototypes."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from schemas.methods.self_distillation import PatchSelfDistillation
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import MASKS, even_counts
from ssl_tasks.data.views import augment
from ssl_tasks.losses.self_distillation import dino, masked_patches
from ssl_tasks.measures import distillation, distribution
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.targets import Targets
from ssl_tasks.nn.vit import Features
from ssl_tasks.schedules import cosine

LOOKED_AT = 512
"""Patches that `monitored` looks at, at most."""


class Heads(nn.Module):
    """A head for crops, and one for patches, which may be the same."""

    def __init__(self, crops: PrototypeHead, patches: PrototypeHead | None) -> None:
        super().__init__()
        self.crops, self.patches = crops, patches

    def forward(self, crops: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both."""
        return self.crops(crops), (self.patches or self.crops)(patches)

    def hold_prototypes(self) -> None:
        """Let the next step leave the last layers as they are."""
        for head in (self.crops, self.patches):
            if head is not None:
                head.hold_prototypes()


class Losses(NamedTuple):
    """Of a batch, not weighted, with what the student saw of the global crops for losses of a method's own."""

    crops: Tensor
    patches: Tensor
    student: Features
    """Of the global crops, partly masked, one crop's images after the other's."""


class PatchDistillation(nn.Module):
    """Student and teacher, each an encoder and two heads; only the student's global crops are masked.

    Args:
        encoder: of the student, a ViT.
        patch_head: where it is None, patches go through the crops' head.

    Attributes:
        mask_token: takes a masked patch's place in the student.
    """

    def __init__(self, config: PatchSelfDistillation, encoder: TimmEncoder, crop_head: PrototypeHead, patch_head: PrototypeHead | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.heads = encoder, Heads(crop_head, patch_head)
        self.teacher_encoder, self.teacher_heads = Teacher(encoder), Teacher(self.heads)
        self.mask_token = nn.Parameter(torch.zeros(encoder.width))
        crops, patches = (head.prototypes.out_features for head in (crop_head, patch_head or crop_head))
        self.crop_targets = Targets(config, crops, config.teacher_temperature)
        self.patch_targets = Targets(config, patches, config.patch_teacher_temperature)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """Global crops, local crops, then masks (B, global crops, N), true where the student does not see a patch."""
        config, size = self.config, self.encoder.config.image_size
        crops = augment(config.views, images, size, draw)
        grid = self.encoder.grid(size)
        counts = (even_counts(draw, grid**2, config.mask_probability, config.mask_ratio) for _ in range(config.views.count))
        return [*crops, torch.stack([MASKS[config.masking](draw, grid, count) for count in counts], dim=1)]

    def forward(self, views: list[Tensor], progress: float, local_weight: float = 1.0) -> Losses:
        """The losses of both; `local_weight` as in `losses.self_distillation.dino`."""
        count, temperature = self.config.views.count, self.config.student_temperature
        crops, masks = self._crops(views), self._masks(views)
        masked = masks.nonzero(as_tuple=True)
        seen = self.teacher_tokens(crops[0])
        of_crops, of_patches = self.teacher_heads(seen.pooled, seen.patches[masked])
        targets = self.crop_targets(of_crops, progress)

        students = self.encoder.multi_crop(crops, [masks, None][: len(crops)], self.mask_token)
        crop_logits, patch_logits = self.heads(torch.cat([features.pooled for features in students]), students[0].patches[masked])
        crop_loss = dino(list(targets.chunk(count)), list(crop_logits.split(len(views[0]))), temperature, local_weight)
        patch_loss = masked_patches(self.patch_targets(of_patches, progress), patch_logits, temperature, masked[0], len(masks))
        if self.training:
            self.crop_targets.move(of_crops)
            self.patch_targets.move(of_patches)
        return Losses(crop_loss, patch_loss, students[0])

    @torch.no_grad()
    def teacher_tokens(self, crops: Tensor) -> Features:
        """What the teacher's encoder says of crops, which it sees unmasked."""
        return cast(TimmEncoder, self.teacher_encoder.network).tokens(crops)

    def hold_prototypes(self, progress: float) -> None:
        """Let the next step leave the last layers as they are, as long as they are frozen."""
        if progress < self.config.freeze_last_layer:
            self.heads.hold_prototypes()

    def follow(self, progress: float) -> None:
        """Move the teacher after the student."""
        momentum = cosine(progress, self.config.momentum, self.config.momentum_end)
        self.teacher_encoder.follow(self.encoder, momentum)
        self.teacher_heads.follow(self.heads, momentum)

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """`measures.distillation` of unmasked global crops, and `patch_entropy`: what `teacher_entropy` is, of masked patches."""
        crops, masked = self._crops(views)[0], self._masks(views).nonzero(as_tuple=True)
        seen = self.teacher_tokens(crops)
        patches = seen.patches[masked]
        of_crops, of_patches = self.teacher_heads(seen.pooled, patches[:: max(1, len(patches) // LOOKED_AT)])
        student, sharpest = self.heads.crops(self.encoder(crops)), min(self.config.teacher_temperature, self.config.teacher_temperature_start)
        targets = self.crop_targets(of_crops, 1.0)
        found = distillation(targets, student, self.config.student_temperature, sharpest=sharpest, views=self.config.views.count)
        return {**found, "patch_entropy": distribution(self.patch_targets(of_patches, 1.0))["teacher_entropy"]}

    def _crops(self, views: list[Tensor]) -> list[Tensor]:
        """All global crops as one batch, and all local ones where there are any."""
        count, local_count = self.config.views.count, self.config.views.local_count
        return [torch.cat(group) for group in (views[:count], views[count : count + local_count]) if group]

    def _masks(self, views: list[Tensor]) -> Tensor:
        """Masks (global crops * B, N) in the order of the global crops' batch."""
        return views[self.config.views.count + self.config.views.local_count].transpose(0, 1).flatten(0, 1)
