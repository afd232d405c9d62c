"""How much a student says what its teacher says: Stanton, Izmailov, Kirichenko, Alemi, Wilson, 2021, https://arxiv.org/abs/2106.05945, section 3.

Neither number looks at a label: a student may agree with its teacher where both are wrong. The paper's KL is at the temperature of
the training; here it is at 1, what both classifiers say as they are, so that students of different methods compare.
Shapes: Q images, K classes, in one order for both.
"""

from collections.abc import Iterator

import numpy as np
import torch

from schemas.protocols.classifiers import Fidelity
from ssl_tasks.evaluate.findings import Number, Skipped, right
from ssl_tasks.evaluate.neighbours import Floats
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Fidelity, subject: Subject) -> Iterator[Number]:
    own, teacher = subject.said, subject.teacher
    if own is None:
        raise Skipped("is no classifier")
    if teacher is None:
        raise Skipped("has no teacher among the models that is a classifier")
    if sorted(own.classes) != sorted(teacher.classes):
        raise Skipped("does not have its teacher's classes")
    taught = teacher.queries[:, [teacher.classes.index(name) for name in own.classes]]
    same = agreement(own.queries, taught)
    yield Number("agreement", [float(same.mean())], len(same), same)
    yield Number("kl", [divergence(own.queries, taught)], len(same))


def meaning(protocol: Fidelity) -> str:
    return (
        "What a student says beside what its teacher says of the same test images, labels aside: percent to which both give one class, and "
        "the mean KL(teacher || student) in nats, at temperature 1. The baseline is held against the same teacher."
    )


def agreement(student_QK: Floats, teacher_QK: Floats) -> Floats:
    """Whether both give an image the same class, 1 or 0, (Q,)."""
    return right(student_QK.argmax(1), teacher_QK.argmax(1))


def divergence(student_QK: Floats, teacher_QK: Floats) -> float:
    """Mean over the images of KL(teacher || student), in nats, of logits."""
    student, teacher = (torch.from_numpy(np.asarray(logits, np.float64)).log_softmax(1) for logits in (student_QK, teacher_QK))
    return float((teacher.exp() * (teacher - student)).sum(1).mean())
