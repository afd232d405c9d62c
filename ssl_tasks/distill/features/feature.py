"""FitNets: Hints for Thin Deep Nets. Romero, Ballas, Kahou, Chassang, Gatta, Bengio, 2015. https://arxiv.org/abs/1412.6550

The student's features are projected to the teacher's dimension and made to be, or to point, where the teacher's are: of the image,
and where `places` is above 0 of each place in it. Nothing is assumed of either architecture, and no label is needed. The projections
are dropped afterwards.

Differs from the paper:
- The features of the last layer are regressed, not a layer half-way, and the whole student is trained, not its first half.
- 1 - cosine, or smooth L1, instead of the squared distance: the length of a self-supervised feature says little of its image,
  and a few large numbers of it would rule a square.
- The teacher's mean feature is taken off first (`center`): features behind a ReLU all lie in one corner, where a student
  that always answers the mean has a high cosine already. The mean is that of all batches so far.
- A student whose grid of places is not the teacher's has its projected places resampled to it, bilinearly.
"""

import torch
from torch import Tensor, nn

from schemas.distillers import Feature as FeatureConfig
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.distributed import mean
from ssl_tasks.losses.feature import cosine_distance, smooth_l1
from ssl_tasks.method import Terms
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.maps import as_map, as_places, resampled

DISTANCES = {"cosine": cosine_distance, "smooth_l1": smooth_l1}


class Feature(Objective):
    """Projections, trained with the student to predict the teacher's features on the same view; none of a part whose weight is 0."""

    config: FeatureConfig

    def __init__(self, config: FeatureConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        assert setting.teacher
        self.grid = setting.teacher.grid
        self.of_image = Regression(config, setting.student.dim, setting.teacher.dim) if config.pooled else None
        self.of_places = Regression(config, setting.student.width, setting.teacher.width) if config.places else None

    @classmethod
    def wants_places(cls, config: FeatureConfig) -> bool:
        return config.places > 0

    @classmethod
    def wants_pooled(cls, config: FeatureConfig) -> bool:
        return config.pooled > 0

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        distance, terms = DISTANCES[self.config.distance], Terms()
        if self.of_image:
            terms[self.config.distance] = self.config.pooled * distance(self.of_image(student.pooled), self.of_image.target(lesson.teacher.pooled))
        if self.of_places:
            assert student.places is not None
            assert lesson.teacher.places is not None
            projected = as_places(resampled(as_map(self.of_places(student.places)), self.grid))
            terms[f"{self.config.distance}_places"] = self.config.places * distance(projected, self.of_places.target(lesson.teacher.places))
        return terms


class Regression(nn.Module):
    """A projection to the teacher's dimension, and the mean that is taken off the teacher's features."""

    center: Tensor
    batches: Tensor

    def __init__(self, config: FeatureConfig, dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.projection = mlp(dim, *([config.hidden] * bool(config.hidden)), teacher_dim, last_bias=True)
        self.centers = config.center
        self.register_buffer("center", torch.zeros(teacher_dim))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) or (B, N, D), projected."""
        projected: Tensor = self.projection(features.flatten(0, -2))
        return projected.view(*features.shape[:-1], -1)

    @torch.no_grad()
    def target(self, features: Tensor) -> Tensor:
        """The teacher's features less the mean over all processes of the batches' means so far, this one's included."""
        if self.training and self.centers:
            self.batches += 1
            self.center.lerp_(mean(features.to(self.center.dtype).flatten(0, -2).mean(dim=0)), 1 / self.batches)
        return features - self.center
