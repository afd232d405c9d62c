"""FitNets: Hints for Thin Deep Nets. Romero, Ballas, Kahou, Chassang, Gatta, Bengio, 2015. https://arxiv.org/abs/1412.6550

The student's features are projected to the teacher's dimension and made to point where the teacher's do.
Nothing is assumed of either architecture, and no label is needed. The projection is dropped afterwards.

Differs from the paper:
- The pooled features of the last layer are regressed, not a layer half-way, and the whole student is trained, not its first half.
- 1 - cosine instead of the squared distance: the length of a self-supervised feature says little of its image.
- The teacher's mean feature is taken off first (`center`): features behind a ReLU all lie in one corner, where a student
  that always answers the mean has a high cosine already. The mean is that of all batches so far.
"""

import torch
from torch import Tensor

from schemas.distillers import Feature as FeatureConfig
from ssl_tasks.distill.distiller import Distiller
from ssl_tasks.distributed import mean
from ssl_tasks.losses.feature import cosine_distance
from ssl_tasks.method import Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class Feature(Distiller):
    """Student and projection, trained to predict the direction of the teacher's features on the same view."""

    center: Tensor
    batches: Tensor

    def __init__(self, config: FeatureConfig, student: TimmEncoder, teacher_dim: int) -> None:
        super().__init__(config.views, student)
        self.config = config
        hidden = [config.hidden] if config.hidden else []
        self.projection = mlp(student.dim, *hidden, teacher_dim, last_bias=True)
        self.register_buffer("center", torch.zeros(teacher_dim))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, views: list[Tensor], targets: Tensor, progress: float) -> Terms:  # type: ignore[override]  # see Distiller
        if self.training and self.config.center:
            self._move_center(targets)
        return {"cosine": cosine_distance(self.projection(self.see(views)), targets - self.center)}

    @torch.no_grad()
    def _move_center(self, targets: Tensor) -> None:
        """The mean of the batches' means so far, over all processes."""
        self.batches += 1
        self.center.lerp_(mean(targets.to(self.center.dtype).mean(dim=0)), 1 / self.batches)
