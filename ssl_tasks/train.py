"""fit: the one training loop, of one method or of several that learn side by side from the same views.

Every step is a function of what a checkpoint holds and of the step's number: images, views, learning rate and random state
follow from (seed, step). So a training that is stopped anywhere and resumed ends with the same weights, bit for bit on a CPU,
and a learner ends with the same ones whoever learns beside it.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import UserError
from schemas.training import Train
from ssl_tasks import distributed, memory
from ssl_tasks.collapse import look_steps
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.loader import Batches, Images, seed_of
from ssl_tasks.learner import Learner, Look
from ssl_tasks.method import Method
from ssl_tasks.tracking import Tracker

Views = Callable[[Tensor, Draw], list[Tensor]]


class Seat(NamedTuple):
    """Where in the training a batch is."""

    step: int
    rows: NDArray[np.int64]
    """Numbers of this process's images."""
    samples: int
    """Images of the batch over all processes."""
    own: slice
    """Which of them are this process's."""


Targets = Callable[[list[Tensor], Seat], Any]
CURVE_POINTS = 200
SHOWN_EVERY = 0.5
"""Seconds between two signs of life."""
ASKED_EVERY = 10
"""Steps after which several ranks ask each other whether one was told to stop."""


def fit(
    method: Method,
    images: Images,
    config: Train,
    *,
    seed: int,
    workdir: Path,
    tracker: Tracker,
    device: torch.device | str = "cpu",
    name: str = "",
    look: Look | None = None,
    begin: Callable[[Learner], None] | None = None,
) -> Learner:
    """Train one method; see `fit_together`. What goes wrong is raised."""
    return fit_together({name: method}, images, config, seed=seed, workdir=workdir, tracker=tracker, device=device, look=look, begin=begin)[name]


def fit_together(
    methods: Mapping[str, Method],
    images: Images,
    config: Train | Mapping[str, Train],
    *,
    seed: int,
    workdir: Path,
    tracker: Tracker,
    device: torch.device | str = "cpu",
    views: Views | None = None,
    targets: Targets | None = None,
    look: Look | None = None,
    begin: Callable[[Learner], None] | None = None,
) -> dict[str, Learner]:
    """Train methods side by side: each batch's views are made once, and all learn from these.

    With several ranks each works on its share of the same batches, so that they equal one process.

    Args:
        methods: by name; names prefix their metrics. They are left trained, on the device, in train mode.
        images: uint8 (N, C, S, S), such as a memory-mapped store or `Files`.
        config: budget and optimizer, of all or of each by its name; batches are of one size for all.
        seed: of everything random. The methods' weights are the caller's.
        workdir: where checkpoints are written and looked for; a training that was stopped goes on from them.
        views: makes a batch's views, as `Method.views`; the first method's own where not given.
        targets: makes of a batch's views, and of where it stands, what every method's forward takes as second argument, once a batch.
        look: the monitors.
        begin: called with each learner before it looks for a checkpoint, such as to give it the state of an earlier training.

    Returns:
        The learners by name. Where there are several, the failure of one is in its `failure` and does not stop the others.

    Raises:
        UserError: where the batch cannot be shared out, the images do not suffice, or the only learner failed by a user's mistake.
        KeyboardInterrupt, SystemExit: where the process was told to stop, after the step was finished and a checkpoint written.
    """
    device = torch.device(device)
    configs = {name: config if isinstance(config, Train) else config[name] for name in methods}
    batches = Batches(images, _batch_size(next(iter(configs.values())).batch_size, len(images), tracker), seed, device)
    steps = max(each.steps(len(images)) for each in configs.values())
    alone = len(methods) == 1
    folder = workdir / "checkpoints"
    learners = [Learner(name, method, configs[name], batches.size, seed, folder / (name or "model"), device) for name, method in methods.items()]
    own_steps = {learner.name: learner.config.steps(len(images)) for learner in learners}
    for learner in learners:
        if begin:
            begin(learner)
        learner.resume(tracker)
    generator = torch.Generator(device)
    every = max(1, steps // CURVE_POINTS)
    looks = {learner.name: look_steps(own_steps[learner.name], learner.config.monitors) if look else set() for learner in learners}
    start = min((learner.done for learner in learners if learner.done < own_steps[learner.name]), default=steps)
    if distributed.is_main():
        tracker.params({f"{name}/peak_learning_rate".lstrip("/"): each.peak_rate(batches.size) for name, each in configs.items()})
    before, shown, waits = time.perf_counter(), 0.0, Waits(batches(start, steps, ahead=device.type == "cuda"))

    with Interrupts() as interrupts, _explained(learners):
        for step, batch in waits:
            measures = (step + 1) % every == 0 or step + 1 == steps
            generator.manual_seed(seed_of(seed, "views", step))
            with torch.no_grad():
                made = (views or learners[0].method.views)(batch, Draw(generator, batches.size, batches.own))
                inputs: tuple[Any, ...] = (made,)
                if targets:
                    with learners[0].autocast():
                        inputs = (made, targets(made, Seat(step, batches.rows(step)[batches.own], batches.size, batches.own)))
            # A learner that is ahead, because the others' checkpoints were older, waits for them.
            active = [learner for learner in learners if learner.done == step < own_steps[learner.name] and not learner.has_ended]
            for learner in active:
                last = own_steps[learner.name]
                with _contained(learner, alone, tracker):
                    if look and not learner.looks:
                        learner.look(look, tracker, last)
                    recorded = measures or step + 1 == last
                    learner.step(inputs, last, recorded or step + 1 in looks[learner.name])
                    if recorded:
                        learner.record(learner.read(), tracker, {"train/data_seconds": waits.last})
                    if look and learner.done in looks[learner.name]:
                        learner.look(look, tracker, last)
            took, before = time.perf_counter() - before, time.perf_counter()
            stop = interrupts.agreed(step)
            for learner in active:
                learner.seconds += took
                learner.waited += waits.last
                learner.paced = learner.paced if step == start else (learner.paced[0] + 1, learner.paced[1] + took)
                if not learner.has_ended and (stop or learner.done % learner.config.checkpoint_steps == 0 or learner.done == own_steps[learner.name]):
                    with _contained(learner, alone, tracker):
                        learner.save()
            if distributed.is_main() and (before - shown > SHOWN_EVERY or step + 1 == steps):
                shown = before
                _show(tracker, learners, step + 1, steps, batches.size)
            if stop:
                interrupts.end()
            if all(learner.has_ended or learner.done == own_steps[learner.name] for learner in learners):
                break
    for learner in learners:
        learner.unshard()
    return {learner.name: learner for learner in learners}


def _batch_size(wanted: int, images: int, tracker: Tracker) -> int:
    """Images a step over all ranks: what the config says, or all there are where they are fewer."""
    world = distributed.world_size()
    if wanted % world:
        raise UserError(f"train.batch_size {wanted} cannot be shared out among {world} devices: make it a multiple of {world}")
    if images < 2 * world:
        raise UserError(f"{images} images to train on, at least {2 * world} are needed: see what ingest and curate kept of the train split")
    if images < wanted:
        tracker.note(f"only {images} images for a train.batch_size of {wanted}: every step trains on all of them")
    return min(wanted, images // world * world)


@contextmanager
def _contained(learner: Learner, alone: bool, tracker: Tracker) -> Iterator[None]:
    """Keeps what goes wrong with one of several learners from the others.

    With several ranks only what all of them see alike may be contained: otherwise they would wait for each other for ever.
    """
    try:
        yield
    except Exception as raised:
        error = _in_words(raised, learner)
        if alone or (distributed.world_size() > 1 and (error is not raised or not isinstance(error, UserError))):
            raise
        learner.failure = error
        tracker.note(f"{learner.name} ends at step {learner.done}, the others go on: {error}")


@contextmanager
def _explained(learners: list[Learner]) -> Iterator[None]:
    """Says of memory that is full, and of a device that is gone, what to do."""
    try:
        yield
    except Exception as raised:
        error = _in_words(raised, learners[0])
        if error is raised:
            raise
        raise error from raised


def _in_words(error: Exception, learner: Learner) -> Exception:
    return memory.explained(error, learner.config, learner.batch_size, distributed.world_size(), learner.done + 1, learner.saved)


class Waits:
    """Batches in their order; `last` is how many seconds the latest one was waited for.

    On CUDA the device may have had work left meanwhile, so that it is the most that it was idle.
    """

    def __init__(self, batches: Iterator[tuple[int, Tensor]]) -> None:
        self._batches, self.last = batches, 0.0

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        while True:
            before = time.perf_counter()
            following = next(self._batches, None)
            self.last = time.perf_counter() - before
            if following is None:
                return
            yield following


def _show(tracker: Tracker, learners: list[Learner], step: int, steps: int, batch_size: int) -> None:
    running = [learner for learner in learners if learner.done == step and not learner.failure]
    if running:
        speed = running[0].images_per_second(batch_size)
        loss = sum(learner.loss for learner in running) / len(running)
        tracker.progress(step, steps, {"loss": loss, "images_per_second": speed, "seconds_left": (steps - step) * batch_size / speed})


class Interrupts:
    """While it is open, SIGINT and SIGTERM wait for the step to end, so that it can be resumed from."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python does not let signals be handled
            self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received = number

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step; several ranks stop after the same one."""
        if distributed.world_size() == 1:
            return self._received is not None
        if step % ASKED_EVERY:
            return False
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return bool(distributed.mean(torch.tensor(float(self._received or 0), device=device)).item())

    def end(self) -> NoReturn:
        """Leave as if the signal came now."""
        if self._received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
