"""Distilling the Knowledge in a Neural Network. Hinton, Vinyals, Dean, 2015. https://arxiv.org/abs/1503.02531

loss = alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) cross-entropy with the labels, the latter at T = 1.

Differs from the paper:
- The divergence instead of the cross-entropy of both: they differ by the teacher's entropy, which has no gradient.
- The teacher's term is of all images, the labels' of those that have one.
"""

from schemas.distillers import Hinton as HintonConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.losses.scores import cross_entropy, divergence
from ssl_tasks.method import Terms


class Hinton(Objective):
    """Softened probabilities are the teacher's, and the label's class is the likely one."""

    config: HintonConfig

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        alpha = self.config.alpha
        terms = {"hinton_teacher": alpha * divergence(logits(student), logits(lesson.teacher), self.config.temperature)}
        if self.config.needs_labels:
            labels, count = labelled(lesson)
            terms["hinton_labels"] = (1 - alpha) * cross_entropy(logits(student), labels, count=count)
        return terms
