"""Relational Knowledge Distillation. Park, Kim, Lu, Cho, 2019. https://arxiv.org/abs/1904.05068

Not where an image lies in the student's space is the teacher's, but how far images lie from each other, each in units of its own
space's mean distance, and under which angles each sees two others. So the two spaces may have any dimension, place, turn and scale.

Weights 25 and 50 are those of the CIFAR-100 benchmark (https://github.com/HobbitLong/RepDistiller); the authors take 1 and 2 for metric
learning. Both belong to means over all pairs and all triples of the batch.

Differs from the paper:
- Relations are among the images of the whole batch, over all processes. With several views, among those of one view, a mean over views:
  two views of an image would lie close in either space and tell little.
- No relation tells where the whole cloud lies: a bias behind the last layer has no gradient but rounding.
"""

import torch
from torch import Tensor

from schemas.distillers import RKD as RKDConfig
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.distributed import gather
from ssl_tasks.losses.relations import angles, relative_distances
from ssl_tasks.method import Terms


class RKD(Objective):
    """No networks of its own: relations of any dimensions compare."""

    config: RKDConfig

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        views = zip(student.pooled.chunk(lesson.globals), lesson.teacher.pooled.chunk(lesson.globals), strict=True)
        pairs = [(gather(ours), gather(theirs)) for ours, theirs in views]
        terms: Terms = {}
        if self.config.distance:
            terms["rkd_distance"] = self.config.distance * _mean([relative_distances(*pair) for pair in pairs])
        if self.config.angle:
            own = torch.arange(len(pairs[0][0]), device=student.pooled.device)[lesson.own]
            terms["rkd_angle"] = self.config.angle * _mean([angles(*pair, own) for pair in pairs])
        return terms


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()
