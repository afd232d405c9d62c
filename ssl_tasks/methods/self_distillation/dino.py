"""Emerging Properties in Self-Supervised Vision Transformers (DINO). Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, 2021.
https://arxiv.org/abs/2104.14294

A student predicts, from any crop of an image, the distribution over K prototypes that a teacher gives to a global crop of it.
The teacher is a moving average of the student; its output is centerd and sharpened, each of which keeps the other's collapse away.

Symbols: theta_s, theta_t, the two networks; C, the center; tau_s, tau_t, the temperatures; lambda, the teacher's momentum.

Differs from the paper:
- The teacher's batch norms (ConvNets) use running statistics, copied from the student; the authors' use those of the teacher's batch.
- Weight decay does not rise over the training, unless the optimizer's schedule makes it.
- The prototypes always have length 1 (`norm_last_layer` in the authors' code, their default).
- Augmentations are those of `ssl_tasks.data.views`, the same for every global crop.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import DINO as DINOConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import mean
from ssl_tasks.losses.self_distillation import center_and_sharpen, dino
from ssl_tasks.measures import distribution, entropy
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.schedules import cosine, linear


class DINO(Method):
    """Student and teacher, each an encoder and a head; the teacher's encoder is what is exported."""

    center: Tensor

    def __init__(self, config: DINOConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = PrototypeHead(encoder.dim, config.hidden, config.bottleneck, config.prototypes)
        self.teacher_encoder, self.teacher_head = Teacher(self.encoder), Teacher(self.head)
        self.register_buffer("center", torch.zeros(config.prototypes))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        global_views = views[: self.config.views.count]
        teacher_logits = self.teacher_head(self.teacher_encoder(torch.cat(global_views)))
        targets = center_and_sharpen(teacher_logits, self.center, self.teacher_temperature(progress))
        student_logits = self.head(torch.cat([self.encoder(torch.cat(crops)) for crops in _by_size(views)]))
        loss = dino(list(targets.chunk(len(global_views))), list(student_logits.chunk(len(views))), self.config.student_temperature)
        if self.training:
            self._move_center(teacher_logits)
        return {"dino": loss}

    def before_step(self, progress: float) -> None:
        if progress < self.config.freeze_last_layer:
            self.head.prototypes.weight.grad = None

    def after_step(self, progress: float) -> None:
        momentum = cosine(progress, self.config.momentum, 1.0)
        self.teacher_encoder.follow(self.encoder, momentum)
        self.teacher_head.follow(self.head, momentum)

    def exported(self) -> nn.Module:
        return self.teacher_encoder.network

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """The teacher's distributions at their final temperature, see `measures.distribution`; a flat KL to the student's means that
        nothing is learned.
        """
        crops = torch.cat(views[: self.config.views.count])
        logits = self.teacher_head(self.teacher_encoder(crops)).float()
        teacher = center_and_sharpen(logits, self.center, self.config.teacher_temperature)
        student = torch.log_softmax(self.head(self.encoder(crops)).float() / self.config.student_temperature, dim=-1)
        return {**distribution(teacher), "teacher_student_kl": float((-(teacher * student).sum(dim=-1) - entropy(teacher)).mean())}

    def teacher_temperature(self, progress: float) -> float:
        """tau_t: moves linearly from its start to its final value, then stays."""
        warmup = self.config.teacher_temperature_warmup
        risen = min(progress / warmup, 1.0) if warmup else 1.0
        return linear(risen, self.config.teacher_temperature_start, self.config.teacher_temperature)

    @torch.no_grad()
    def _move_center(self, teacher_logits: Tensor) -> None:
        """C <- m C + (1 - m) mean of the raw teacher logits, over all processes (equation 4)."""
        batch = mean(teacher_logits.to(self.center.dtype).mean(dim=0))
        self.center.lerp_(batch, 1 - self.config.center_momentum)


def _by_size(views: list[Tensor]) -> list[list[Tensor]]:
    """Consecutive views of the same size, together: each group is one pass of the encoder."""
    groups: list[list[Tensor]] = []
    for view in views:
        if groups and groups[-1][0].shape == view.shape:
            groups[-1].append(view)
        else:
            groups.append([view])
    return groups
