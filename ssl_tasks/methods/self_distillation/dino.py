"""Emerging Properties in Self-Supervised Vision Transformers (DINO). Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, 2021.
https://arxiv.org/abs/2104.14294

A student predicts, from any crop of an image, the distribution over K prototypes that a teacher gives to a global crop of it.
The teacher is a moving average of the student; its output is centred and sharpened, each of which keeps the other's collapse away.

Symbols: theta_s, theta_t, the two networks; C, the center; tau_s, tau_t, the temperatures; lambda, the teacher's momentum.

Differs from the paper:
- The teacher's batch norms (ConvNets) use running statistics, copied from the student, as in EMAN
  (https://arxiv.org/abs/2101.08482); the authors' use those of the teacher's batch.
- Weight decay does not rise over the training, unless the optimizer's schedule makes it.
- The prototypes always have length 1 (`norm_last_layer` in the authors' code, their default).
- `centering: sinkhorn` is DINOv2's; the paper's appendix D tries it too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import DINO as DINOConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.self_distillation import dino
from ssl_tasks.measures import distillation
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.targets import Targets
from ssl_tasks.schedules import cosine


class DINO(Method):
    """Student and teacher, each an encoder and a head; the teacher's encoder is what is exported."""

    def __init__(self, config: DINOConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = PrototypeHead(encoder.dim, config.hidden, config.bottleneck, config.prototypes)
        self.teacher_encoder, self.teacher_head = Teacher(self.encoder), Teacher(self.head)
        self.targets = Targets(config, config.prototypes, config.teacher_temperature)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        count = self.config.views.count
        crops = [torch.cat(group) for group in (views[:count], views[count:]) if group]
        teacher_logits = self.teacher_head(self.teacher_encoder(crops[0]))
        targets = self.targets(teacher_logits, progress)
        student_logits = self.head(torch.cat([features.pooled for features in self.encoder.multi_crop(crops)]))
        loss = dino(list(targets.chunk(count)), list(student_logits.chunk(len(views))), self.config.student_temperature)
        if self.training:
            self.targets.move(teacher_logits)
        return {"dino": loss}

    def before_step(self, progress: float) -> None:
        if progress < self.config.freeze_last_layer:
            self.head.hold_prototypes()

    def after_step(self, progress: float) -> None:
        momentum = cosine(progress, self.config.momentum, self.config.momentum_end)
        self.teacher_encoder.follow(self.encoder, momentum)
        self.teacher_head.follow(self.head, momentum)

    def exported(self) -> nn.Module:
        return self.teacher_encoder.network

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """The teacher's distributions at their final temperature and the student's distance from them, see `measures.distillation`."""
        crops = torch.cat(views[: self.config.views.count])
        teacher = self.targets(self.teacher_head(self.teacher_encoder(crops)), progress=1.0)
        student, sharpest = self.head(self.encoder(crops)), min(self.config.teacher_temperature, self.config.teacher_temperature_start)
        return distillation(teacher, student, self.config.student_temperature, sharpest=sharpest, views=self.config.views.count)
