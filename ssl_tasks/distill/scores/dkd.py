"""Decoupled Knowledge Distillation. Zhao, Cui, Song, Qiu, Liang, 2022. https://arxiv.org/abs/2203.08679

Hinton's divergence is TCKD, of the label's class against all others, plus (1 - the teacher's probability of the label) times NCKD, among
the others: where the teacher is sure, what it knows of the others is hardly taught. Here each has a weight of its own.

loss = label_weight * cross-entropy + min(progress / warmup, 1) * (alpha TCKD + beta NCKD), with T^2 in both.

Differs from the authors' code (https://github.com/megvii-research/mdistiller):
- The label's class is left out of the softmax among the others, not pushed down by 1000.
- The warm-up rises with every step, not with every epoch.
- Images without label, which cannot be taken apart, are left out.
"""

from schemas.distillers import DKD as DKDConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.losses.scores import cross_entropy, decoupled
from ssl_tasks.method import Terms


class DKD(Objective):
    """The label's class against the others, and the others among themselves, are as likely as the teacher has them."""

    config: DKDConfig

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        config = self.config
        labels, count = labelled(lesson)
        target, others = decoupled(logits(student), logits(lesson.teacher), labels, config.temperature, count)
        rise = min(progress / config.warmup, 1.0) if config.warmup else 1.0
        terms = {"dkd_target": rise * config.alpha * target, "dkd_others": rise * config.beta * others}
        if config.label_weight:
            terms["dkd_labels"] = config.label_weight * cross_entropy(logits(student), labels, count=count)
        return terms
