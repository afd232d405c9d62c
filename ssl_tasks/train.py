"""fit: the one training loop, of one method or of several that learn side by side from the same views.

Every step is a function of what a checkpoint holds and of the step's number: images, views, learning rate and random state
follow from (seed, step). So a training that is stopped anywhere and resumed ends with the same weights, bit for bit on a CPU,
and a learner ends with the same ones whoever learns beside it.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import TryAgain, UserError
from schemas.training import Train
from ssl_tasks import distributed, memory
from ssl_tasks.checkpoints import Unwritable
from ssl_tasks.cohorts import cohorts, resume
from ssl_tasks.collapse import look_steps
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.loader import Batches, Images, seed_of
from ssl_tasks.learner import Learner, Look
from ssl_tasks.method import Method
from ssl_tasks.ranks import Interrupts, Ranks, Spread, shared_out
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
    spread: Mapping[str, float] | None = None,
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
        spread: what a step of each method costs, in any unit: with several ranks each method is trained by one of them. Then `views` and
            `targets` get this rank's share of the images and must give those of the whole batch. None for every method on every rank.

    Returns:
        The learners by name, under `spread` those of this rank. Where there are several, the failure of one is in its `failure` and does
        not stop the others, and those that have ended hold no gradients and no state of their optimizer.

    Raises:
        UserError: where the batch cannot be shared out, the images do not suffice, or the only learner failed by a user's mistake.
        TryAgain: where one of several ran out of memory on a rank that shares its batches with others: the next try leaves it out.
        KeyboardInterrupt, SystemExit: where the process was told to stop, after the step was finished and a checkpoint written.
    """
    device = torch.device(device)
    configs = {name: config if isinstance(config, Train) else config[name] for name in methods}
    batches = Batches(images, _batch_size(next(iter(configs.values())).batch_size, len(images), tracker), seed, device)
    last = {name: each.steps(len(images)) for name, each in configs.items()}
    steps, alone = max(last.values()), len(methods) == 1
    parted = spread is not None and distributed.world_size() > 1
    ranks = Spread(shared_out(spread, methods), tracker) if parted and spread else Ranks(methods, tracker)
    contained = partial(_contained, alone=alone, tracker=ranks.tracker)
    folder = workdir / "checkpoints"
    here = {name: method for name, method in methods.items() if name in ranks.names}
    learners = [Learner(name, method, configs[name], batches.size, seed, folder / (name or "model"), device) for name, method in here.items()]
    if not alone and not parted:
        _leave_out(learners, tracker)
    with ranks.at_work(), _explained(next(iter(configs.values())), batches.size, learners):
        for learner in learners:
            with contained(learner):
                learner.prepare()
                if begin and not learner.failure:
                    begin(learner)
        for cohort in cohorts([learner for learner in learners if learner.method.cohort or not learner.failure]):
            resume(cohort, last, ranks.tracker, contained)
    pace = {learner.name: min(each.config.checkpoint_steps for each in cohort) for cohort in cohorts(learners) for learner in cohort}
    looks = {learner.name: look_steps(last[learner.name], learner.config.monitors) if look else set() for learner in learners}
    generator = torch.Generator(device)

    def runs(learner: Learner) -> bool:
        return learner.done < last[learner.name] and not learner.has_ended

    start = ranks.first(min((learner.done for learner in learners if runs(learner)), default=steps))
    if distributed.is_main():
        tracker.params({f"{name}/peak_learning_rate".lstrip("/"): each.peak_rate(batches.size) for name, each in configs.items()})
    before, shown, waits = time.perf_counter(), 0.0, Waits(batches(start, steps, ahead=device.type == "cuda"))

    with Interrupts() as interrupts, _explained(next(iter(configs.values())), batches.size, learners):
        for step, batch in waits:
            generator.manual_seed(seed_of(seed, "views", step))
            with torch.no_grad():
                own = batches.rows(step)[batches.own]
                draw = Draw(generator, batches.size, batches.own, torch.from_numpy(own).to(device))
                made = (views or learners[0].method.views)(batch, draw)
                inputs: tuple[Any, ...] = (made,)
                if targets:
                    with _explained(next(iter(configs.values())), batches.size, learners, shared=True):
                        inputs = (made, targets(made, Seat(step, own, batches.size, batches.own)))
            # A learner that is ahead, because the others' checkpoints were older, waits for them.
            active = [learner for learner in learners if learner.done == step and runs(learner)]
            with ranks.at_work():
                for learner in active:
                    with contained(learner):
                        _one_step(learner, inputs, last[learner.name], look, looks[learner.name], ranks.tracker, waits.last)
            took, before = time.perf_counter() - before, time.perf_counter()
            stop, over = ranks.agreed(step, interrupts.received is not None, any(map(runs, learners)))
            with ranks.at_work():
                for learner in active:
                    learner.seconds += took
                    learner.waited += waits.last
                    learner.paced = learner.paced if step == start else (learner.paced[0] + 1, learner.paced[1] + took)
                    whole = not learner.failure and not learner.fell_back
                    if whole and (stop or not runs(learner) or learner.done % pace[learner.name] == 0):
                        with contained(learner):
                            learner.save()
                    if not alone and not runs(learner):
                        learner.release()
            if distributed.is_main() and (before - shown > SHOWN_EVERY or step + 1 == steps):
                shown = before
                _show(tracker, learners, last, step + 1, batches.size)
            if stop:
                interrupts.end()
            if over:
                break
        ranks.close()
    for learner in learners:
        learner.unshard()
    return {learner.name: learner for learner in learners}


def _one_step(learner: Learner, inputs: tuple[Any, ...], last: int, look: Look | None, looks: set[int], tracker: Tracker, waited: float) -> None:
    """A step of a learner, what is recorded of it, and the look of the monitors where one is due."""
    if look and not learner.looks:
        learner.look(look, tracker, last)
    recorded = (learner.done + 1) % max(1, last // CURVE_POINTS) == 0 or learner.done + 1 == last
    learner.step(inputs, last, recorded or learner.done + 1 in looks)
    if recorded:
        learner.record(learner.read(), tracker, {"train/data_seconds": waited})
    if look and learner.done in looks:
        learner.look(look, tracker, last)


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


def _leave_out(learners: list[Learner], tracker: Tracker) -> None:
    """End at once those that ran out of memory at an earlier try of these ranks."""
    if (several := distributed.world_size()) == 1:
        return
    failures = distributed.broadcast([memory.kept(learner.folder, learner.config, several) for learner in learners])
    for learner, failure in zip(learners, failures, strict=True):
        learner.failure = failure
        if failure and distributed.is_main():
            tracker.note(f"{learner.name} is left out, the others go on: {failure}")


@contextmanager
def _contained(learner: Learner, alone: bool, tracker: Tracker) -> Iterator[None]:
    """Keeps what goes wrong with one of several learners from the others.

    With several ranks only what all of them see alike may be contained: otherwise they would wait for each other for ever. Memory that
    is full on one of them ends this try of the stage, and the next one leaves the learner out.
    """
    try:
        yield
    except Exception as raised:
        error = _in_words(raised, learner.config, learner.batch_size, learner)
        several = distributed.world_size()
        if several > 1 and not alone and not learner.failure and isinstance(error, memory.OutOfMemory):
            memory.keep(learner.folder, error, learner.config, several, distributed.rank())
            when = "at the next try, or where none is left the next time that the pipeline is run"
            raise TryAgain(f"{learner.name} ended on one of {several} devices; the others go on from their checkpoints {when}: {error}") from raised
        if alone or (several > 1 and (error is not raised or not isinstance(error, UserError) or isinstance(error, Unwritable))):
            raise
        traceback.clear_frames(raised.__traceback__)  # they would keep the step's tensors alive
        learner.failure = error
        learner.release()
        tracker.note(f"{learner.name} ends at step {learner.done}, the others go on: {error}")


@contextmanager
def _explained(config: Train, batch: int, learners: list[Learner], shared: bool = False) -> Iterator[None]:
    """Says of memory that is full, and of a device that is gone, what to do."""
    try:
        yield
    except Exception as raised:
        error = _in_words(raised, config, batch, max(learners, key=lambda each: each.done, default=None), shared)
        if error is raised:
            raise
        raise error from raised


def _in_words(error: Exception, config: Train, batch: int, learner: Learner | None, shared: bool = False) -> Exception:
    done, saved = (learner.done, learner.saved) if learner else (0, 0)
    return memory.explained(error, config, batch, distributed.world_size(), done + 1, saved, shared)


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


def _show(tracker: Tracker, learners: list[Learner], last: Mapping[str, int], step: int, batch_size: int) -> None:
    running = [learner for learner in learners if learner.done == step and not learner.failure]
    if running:
        steps = max(last[learner.name] for learner in running)
        speed = running[0].images_per_second(batch_size)
        loss = sum(learner.loss for learner in running) / len(running)
        tracker.progress(step, steps, {"loss": loss, "images_per_second": speed, "seconds_left": (steps - step) * batch_size / speed})
