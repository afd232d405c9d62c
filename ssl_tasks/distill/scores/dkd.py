"""DKD."""

from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.method import Terms


class DKD(Objective):
    """Not built yet."""

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        raise NotImplementedError
