"""Cohorts: learners that see each other train, such as peers of mutual learning. They go on from the same step, as one training."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from ssl_tasks import checkpoints, early_stop
from ssl_tasks.learner import Learner
from ssl_tasks.tracking import Tracker


class Kept(NamedTuple):
    """The newest whole checkpoint of a training up to some step; `state` is None where there is none."""

    state: dict[str, Any] | None
    passed_over: list[str]
    done: int
    has_ended: bool


def cohorts(learners: Sequence[Learner]) -> list[list[Learner]]:
    """The learners that see each other train, together; every other one by itself."""
    named = dict.fromkeys(learner.method.cohort for learner in learners if learner.method.cohort)
    return [[learner] for learner in learners if not learner.method.cohort] + [[each for each in learners if each.method.cohort == name] for name in named]


def resume(cohort: Sequence[Learner], steps: Mapping[str, int], tracker: Tracker, contained: Callable[[Learner], AbstractContextManager[None]]) -> None:
    """Let all of a cohort go on from the newest step that each has kept, or has ended before.

    Args:
        steps: of each learner's whole training, by its name.
        contained: open while a learner resumes.
    """
    kept = {learner: _kept(learner, steps[learner.name]) for learner in cohort}
    while ahead := [learner for learner, found in kept.items() if found.done > _slowest(kept)]:
        slowest = _slowest(kept)
        kept |= {learner: _kept(learner, steps[learner.name], slowest) for learner in ahead}
    for learner, found in kept.items():
        with contained(learner):
            learner.resume(tracker, (found.state, found.passed_over))


def _slowest(kept: Mapping[Learner, Kept]) -> int:
    """The step of the one that is furthest behind of those that have not ended."""
    return min((found.done for found in kept.values() if not found.has_ended), default=max(found.done for found in kept.values()))


def _kept(learner: Learner, steps: int, until: int | None = None) -> Kept:
    state, passed_over = checkpoints.load_training(learner.folder, learner.identity(), until)
    own: dict[str, Any] = state["own"] if state else {"done": 0, "looks": []}
    ended = learner.failure or own["done"] >= steps or early_stop.stalled(own["looks"], learner.config.early_stop)
    return Kept(state, passed_over, own["done"], bool(ended))
