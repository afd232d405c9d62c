"""Cross-entropy with labels, with label smoothing on request: plain supervised learning, which needs no teacher.

Label smoothing: Rethinking the Inception Architecture for Computer Vision. Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, 2015.
https://arxiv.org/abs/1512.00567

Differs from the paper: nothing is spread by default, the paper's share is 0.1.

A network that is to be a teacher is better trained without smoothing: its scores then say nothing of which classes an image is near to
(When Does Label Smoothing Help? Mueller, Kornblith, Hinton, 2019. https://arxiv.org/abs/1906.02629).
"""

from schemas.distillers import CrossEntropy as CrossEntropyConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.losses.scores import cross_entropy
from ssl_tasks.method import Terms


class CrossEntropy(Objective):
    """The label's class is the likely one; images without label are passed over."""

    config: CrossEntropyConfig

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        labels, count = labelled(lesson)
        return {"cross_entropy": cross_entropy(logits(student), labels, self.config.smoothing, count=count)}
