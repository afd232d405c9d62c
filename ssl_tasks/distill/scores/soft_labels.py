"""Big Self-Supervised Models are Strong Semi-Supervised Learners (SimCLR v2). Chen, Kornblith, Swersky, Norouzi, Hinton, 2020.
https://arxiv.org/abs/2006.10029

Third stage: a network that was pretrained without labels and fine-tuned with few of them says how likely each class is, of images that
need no label; the student learns these soft labels. With w = label_weight, equations 2 and 3:

loss = (1 - w) T^2 cross-entropy(softmax(teacher / T), softmax(student / T)) + w cross-entropy with the labels of the images that have one.

T^2 is not in the paper, but in the authors' notebook (https://github.com/google-research/simclr).

Differs from the paper: the labels' term is a mean over labelled images, not a sum beside that of all.
"""

from schemas.distillers import SoftLabels as SoftLabelsConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.losses.scores import cross_entropy, softened_cross_entropy
from ssl_tasks.method import Terms


class SoftLabels(Objective):
    """The teacher's probabilities are the labels of every image."""

    config: SoftLabelsConfig

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        share = self.config.label_weight
        terms = {"soft_labels": (1 - share) * softened_cross_entropy(logits(student), logits(lesson.teacher), self.config.temperature)}
        if share:
            labels, count = labelled(lesson)
            terms["soft_labels_labelled"] = share * cross_entropy(logits(student), labels, count=count)
        return terms
