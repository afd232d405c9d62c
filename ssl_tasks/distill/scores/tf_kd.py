"""Revisiting Knowledge Distillation via Label Smoothing Regularization (Tf-KD). Yuan, Tay, Li, Wang, Feng, 2020.
https://arxiv.org/abs/1909.11723

Section 5, Tf-KD_reg: the teacher is made by hand. It is nearly sure of the label and gives the rest evenly, softened by a high
temperature; the student is at T = 1.

loss = (1 - alpha) cross-entropy with the labels + alpha KL(teacher made by hand || student)

The authors' code (https://github.com/yuanli2333/Teacher-free-Knowledge-Distillation) softens the probabilities themselves, not their
logarithms; at T = 20 that teacher is nearly even, so that the term is a kind of label smoothing. No T^2, as there.

Differs from the authors' code: the divergence is a sum over classes. Theirs is a mean over them, times 100 on the 100 classes of CIFAR-100,
which is the same; on another number of classes it is not. Their other variant, where a network trained before is the teacher, is `hinton`.
"""

from schemas.distillers import TfKD as TfKDConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.losses.scores import cross_entropy, divergence_from, virtual_teacher
from ssl_tasks.method import Terms


class TfKD(Objective):
    """Labels, and a teacher made of them by hand."""

    config: TfKDConfig

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        config = self.config
        labels, count = labelled(lesson)
        said = virtual_teacher(labels, logits(student).shape[1], config.confidence, config.temperature)
        return {
            "tf_kd_teacher": config.alpha * divergence_from(said, logits(student), count),
            "tf_kd_labels": (1 - config.alpha) * cross_entropy(logits(student), labels, count=count),
        }
