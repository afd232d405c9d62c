"""How much a student says what its teacher says: Stanton, Izmailov, Kirichenko, Alemi, Wilson, 2021, https://arxiv.org/abs/2106.05945, section 3.

Neither number looks at a label: a student may agree with its teacher where both are wrong. The paper's KL is at the temperature of
the training; here it is at 1, what both classifiers say as they are, so that students of different methods compare.
Shapes: Q images, K classes, in one order for both.
"""

import numpy as np
import torch

from ssl_tasks.evaluate.knn import Floats


def agreement(student_QK: Floats, teacher_QK: Floats) -> float:
    """Share of the images to which both give the same class."""
    return float(np.mean(student_QK.argmax(1) == teacher_QK.argmax(1)))


def divergence(student_QK: Floats, teacher_QK: Floats) -> float:
    """Mean over the images of KL(teacher || student), in nats, of logits."""
    student, teacher = (torch.from_numpy(np.asarray(logits, np.float64)).log_softmax(1) for logits in (student_QK, teacher_QK))
    return float((teacher.exp() * (teacher - student)).sum(1).mean())
