"""Born-Again Neural Networks. Furlanello, Lipton, Tschannen, Itti, Anandkumar, 2018. https://arxiv.org/abs/1805.04770

A network is taught by one of the same architecture that was trained before it, and becomes the teacher of the next. Each generation is
a stage of its own, whose teacher is the stage before.

- plain: KL(teacher || student) at T = 1, and the labels.
- cwtm: labels alone, the share of each image in the loss as large as the teacher's highest probability; normalised over the whole batch.
- dkpp: as plain, but all probabilities of the teacher except the highest change places at random.

The two ablations tell what of the teacher helps: its confidence, or what it knows of the other classes.

Differs from the paper:
- The divergence instead of the cross-entropy: they differ by the teacher's entropy, which has no gradient.
- dkpp has the labels' term too, as plain has; `label_weight: 0` leaves it out.
- Generations are not averaged to an ensemble.
"""

from torch import Tensor

from schemas.distillers import BornAgain as BornAgainConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.labels import UNKNOWN
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.distributed import mean
from ssl_tasks.losses.scores import cross_entropy, divergence_from, others_permuted
from ssl_tasks.method import Terms


class BornAgain(Objective):
    """Labels, and what the generation before says."""

    config: BornAgainConfig

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        weight, said = self.config.label_weight, logits(lesson.teacher).softmax(dim=1)
        if self.config.variant == "cwtm":
            return {"born_again_weighed": weight * _weighed(logits(student), said, lesson)}
        targets = _permuted(said, lesson) if self.config.variant == "dkpp" else said
        terms = {"born_again_teacher": divergence_from(targets, logits(student))}
        if weight:
            labels, count = labelled(lesson)
            terms["born_again_labels"] = weight * cross_entropy(logits(student), labels, count=count)
        return terms


def _weighed(own: Tensor, said: Tensor, lesson: Lesson) -> Tensor:
    """Cross-entropy of labelled images, each weighed by the teacher's highest probability."""
    labels, _ = labelled(lesson)
    confidence = said.amax(dim=1).masked_fill(labels == UNKNOWN, 0.0)
    return cross_entropy(own, labels, weights_B=confidence, count=mean(confidence.sum()))


def _permuted(said: Tensor, lesson: Lesson) -> Tensor:
    """The teacher's probabilities with all but the highest of each view in a random order of its own."""
    draws = lesson.draw("born again").uniforms(lesson.globals, said.shape[1] - 1)
    return others_permuted(said, draws.transpose(0, 1).flatten(0, 1).argsort(dim=1))
