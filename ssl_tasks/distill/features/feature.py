"""FitNets: Hints for Thin Deep Nets. Romero, Ballas, Kahou, Chassang, Gatta, Bengio, 2015. https://arxiv.org/abs/1412.6550

The student's features are projected to the teacher's dimension and made to point where the teacher's do.
Nothing is assumed of either architecture, and no label is needed. The projection is dropped afterwards.

Differs from the paper:
- The features of the last layer are regressed, not a layer half-way, and the whole student is trained, not its first half.
- 1 - cosine instead of the squared distance: the length of a self-supervised feature says little of its image.
- The teacher's mean feature is taken off first (`center`): features behind a ReLU all lie in one corner, where a student
  that always answers the mean has a high cosine already. The mean is that of all batches so far.
"""

import torch
from torch import Tensor

from schemas.distillers import Feature as FeatureConfig
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.distributed import mean
from ssl_tasks.losses.feature import cosine_distance
from ssl_tasks.method import Terms
from ssl_tasks.nn.heads import mlp


class Feature(Objective):
    """A projection, trained with the student to predict the direction of the teacher's features on the same view."""

    config: FeatureConfig
    center: Tensor
    batches: Tensor

    def __init__(self, config: FeatureConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        assert setting.teacher
        hidden = [config.hidden] if config.hidden else []
        self.projection = mlp(setting.student.dim, *hidden, setting.teacher.dim, last_bias=True)
        self.register_buffer("center", torch.zeros(setting.teacher.dim))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        targets = lesson.teacher.pooled
        if self.training and self.config.center:
            self._move_center(targets)
        return {"cosine": cosine_distance(self.projection(student.pooled), targets - self.center)}

    @torch.no_grad()
    def _move_center(self, targets: Tensor) -> None:
        """The mean of the batches' means so far, over all processes."""
        self.batches += 1
        self.center.lerp_(mean(targets.to(self.center.dtype).mean(dim=0)), 1 / self.batches)
