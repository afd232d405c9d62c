"""Do Deep Nets Really Need to be Deep? Ba, Caruana, 2014. https://arxiv.org/abs/1312.6184

The student's logits are regressed on the teacher's: what comes before the softmax tells apart probabilities that are all nearly 0.

Differs from the paper:
- The teacher's logits are taken as they are. The paper takes off each logit's mean over the training set and divides by its deviation, which
  it finds not to be crucial. Nor is the mean over an image's classes taken off, which a softmax does not see: a linear layer learns it.
- The teacher is one network, not an ensemble, and the student any network, not one of a single wide hidden layer.
"""

from ssl_tasks.distill.class_scores import logits
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.losses.scores import half_squared_distance
from ssl_tasks.method import Terms


class Logits(Objective):
    """Squared distance of logits."""

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        return {"logits": half_squared_distance(logits(student), logits(lesson.teacher))}
