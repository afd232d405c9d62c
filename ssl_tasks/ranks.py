"""What processes that train together tell each other besides tensors: when to stop, and under `spread` whose learner is whose.

Learners are usually on every rank, each rank with its share of the batch. Spread, each is on one rank alone, which trains it on the
whole batch without averaging gradients; what is the same for all, views and what a teacher says of them, is still computed by every
rank for its share. These are DINOv3's groups of ranks (https://arxiv.org/abs/2508.10104, section 5.2), with one rank a group.
"""

import signal
import threading
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any, NoReturn

from ssl_tasks import distributed
from ssl_tasks.method import Method
from ssl_tasks.tracking import Tracker

ASKED_EVERY = 10
"""Steps after which several ranks ask each other whether one was told to stop."""


class Interrupts:
    """While it is open, SIGINT and SIGTERM wait for the step to end, so that it can be resumed from.

    Attributes:
        received: the number of the last signal, None where there was none.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python does not let signals be handled
            self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number

    def end(self) -> NoReturn:
        """Leave as if the signal came now."""
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


class Ranks:
    """Every learner is on every rank.

    Attributes:
        names: of the learners of this rank.
        tracker: what these may tell.
    """

    def __init__(self, names: Collection[str], tracker: Tracker) -> None:
        self.names, self.tracker = frozenset(names), tracker

    def at_work(self) -> AbstractContextManager[None]:
        """Open while a learner of this rank works."""
        return nullcontext()

    def first(self, step: int) -> int:
        """The first step that any rank has to do, of what this one has to."""
        return step

    def agreed(self, step: int, told: bool, running: bool) -> tuple[bool, bool]:
        """Whether to stop after this step since a rank was told to, and whether no rank has anything left to train.

        Args:
            told: whether this rank was told to stop.
            running: whether a learner of this rank takes further steps.
        """
        if distributed.world_size() > 1:
            told = step % ASKED_EVERY == 0 and any(distributed.each(told))
        return told, not running

    def close(self) -> None:
        """Called by every rank after the last step."""


class Spread(Ranks):
    """Each learner is on one rank."""

    def __init__(self, owners: Mapping[str, int], tracker: Tracker) -> None:
        super().__init__({name for name, owner in owners.items() if owner == distributed.rank()}, tracker)
        self._told = tracker
        if not distributed.is_main():
            self.tracker = self._kept = _Kept()

    def at_work(self) -> AbstractContextManager[None]:
        return distributed.on_its_own()

    def first(self, step: int) -> int:
        everyone: list[int] = distributed.each(step)
        return min(everyone)

    def agreed(self, step: int, told: bool, running: bool) -> tuple[bool, bool]:
        if step % ASKED_EVERY:
            return False, False
        everyone = self._exchange((told, running))
        return any(told for told, _ in everyone), not any(running for _, running in everyone)

    def close(self) -> None:
        self._exchange((False, False))

    def _exchange(self, state: tuple[bool, bool]) -> list[tuple[bool, bool]]:
        """Every rank's state; what the learners of other ranks told comes to the main one's tracker with it."""
        events = [] if distributed.is_main() else self._kept.taken()
        everyone = distributed.each((state, events))
        if distributed.is_main():
            for name, arguments in (event for _, events in everyone for event in events):
                getattr(self._told, name)(*arguments)
        return [state for state, _ in everyone]


class _Kept:
    """A tracker that keeps what it is told until it is asked for; it shows no progress."""

    def __init__(self) -> None:
        self._events: list[tuple[str, tuple[Any, ...]]] = []

    def params(self, values: Mapping[str, Any]) -> None:
        self._events.append(("params", (dict(values),)))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._events.append(("metrics", (dict(values), step)))

    def progress(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        pass

    def note(self, message: str) -> None:
        self._events.append(("note", (message,)))

    def taken(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What it was told since it was last asked."""
        events, self._events = self._events, []
        return events


def shared_out(costs: Mapping[str, float], methods: Mapping[str, Method]) -> dict[str, int]:
    """The rank of each learner: the dearest first, each to the rank that has least to do; a cohort stays together.

    Args:
        costs: of a step of each learner, in any unit; the same on all ranks.
    """
    cohorts = [[name] for name, method in methods.items() if not method.cohort]
    for kind in dict.fromkeys(method.cohort for method in methods.values() if method.cohort):
        cohorts.append([name for name, method in methods.items() if method.cohort == kind])
    loads = [0.0] * distributed.world_size()
    owners = dict[str, int]()
    for cohort in sorted(cohorts, key=lambda names: (-sum(costs[name] for name in names), names)):
        rank = loads.index(min(loads))
        loads[rank] += sum(costs[name] for name in cohort)
        owners |= dict.fromkeys(cohort, rank)
    return owners
