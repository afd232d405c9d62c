"""Model Compression. Bucila, Caruana, Niculescu-Mizil, 2006. https://www.cs.cornell.edu/~caruana/compression.kdd06.pdf

The student's probabilities are regressed on the teacher's. Where the teacher is sure and the student sure of another class, the
softmax is flat and hardly any gradient is left: `logits` and `hinton` were made for that.

Differs from the paper:
- The teacher is one network, not an ensemble of hundreds of models.
- Images are those of the dataset, each time in another view; MUNGE, which invents rows of tables, has no counterpart here.
- Half the squared Euclidean distance, as in `logits`: a squared error's scale is free.
"""

from ssl_tasks.distill.class_scores import logits
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.losses.scores import half_squared_distance
from ssl_tasks.method import Terms


class Bucila(Objective):
    """Squared distance of probabilities."""

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        return {"bucila": half_squared_distance(logits(student).softmax(dim=1), logits(lesson.teacher).softmax(dim=1))}
