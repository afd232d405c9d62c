"""Self-Knowledge Distillation with Progressive Refinement of Targets. Kim, Ji, Yoon, Hwang, 2021. https://arxiv.org/abs/2006.12000

The target of an image is (1 - a) times its label and a times what the student itself said of it when it last saw it, an epoch ago;
a rises linearly from 0 to `alpha`. An image that was not seen yet has its label alone.

What the student says of every image is kept: images x classes float32 numbers on the device, and in every checkpoint of the
training: 0.02 GB for CIFAR-100, 5.12 GB for ImageNet.

Differs from the paper:
- a rises with every step, not with every epoch.
- With several views of an image, the mean of what was said of them is kept, and is the target of each.
"""

import torch
from torch import Tensor

from schemas.distillers import PSKD as PSKDConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.labels import UNKNOWN
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.distributed import gather
from ssl_tasks.losses.scores import soft_cross_entropy
from ssl_tasks.method import Terms


class PSKD(Objective):
    """Labels refined by the student's own past.

    Attributes:
        past: (images, classes), probabilities of the epoch before; rows of 0 where an image was not seen yet.
    """

    config: PSKDConfig
    past: Tensor

    def __init__(self, config: PSKDConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.register_buffer("past", torch.zeros(setting.images, len(setting.classes)))

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        _, count = labelled(lesson)
        past = self.past[lesson.rows]
        alpha = self.config.alpha * progress * past.any(dim=1, keepdim=True)
        one_hot = torch.zeros_like(past).scatter(1, lesson.labels.clamp(min=0)[:, None], 1.0)
        targets = ((1 - alpha) * one_hot + alpha * past) * (lesson.labels != UNKNOWN)[:, None]
        if self.training:
            self._remember(logits(student).detach(), lesson)
        return {"ps_kd": soft_cross_entropy(logits(student), lesson.of_views(targets), count)}

    @torch.no_grad()
    def _remember(self, own: Tensor, lesson: Lesson) -> None:
        """Keep what was said of all processes' images, the same on each of them."""
        said = own.to(self.past.dtype).softmax(dim=1)
        self.past[gather(lesson.rows)] = gather(said.view(lesson.globals, -1, said.shape[1]).mean(dim=0))
