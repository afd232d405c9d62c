"""What losses on class scores are made of: logits of both networks, and labels."""

from torch import Tensor

from ssl_tasks.distill.labels import UNKNOWN
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson
from ssl_tasks.distributed import mean


def logits(seen: Seen | None) -> Tensor:
    """Logits (n, classes) of a network that is there and has a classifier."""
    assert seen is not None
    assert seen.logits is not None
    return seen.logits


def labelled(lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Class numbers (V x B,) of the joined global views, and how many of them are known, a mean over all processes.

    A process that divides its sum by that number has a share whose mean over processes is the mean over the whole batch's labelled images.
    """
    labels = lesson.of_views(lesson.labels)
    count: Tensor = lesson.once("labelled", lambda: mean((labels != UNKNOWN).sum().float()))
    return labels, count
