"""Looks: what the monitors see of a classifier in training, and the best of its weights on held-out images."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.job import Job
from ssl_tasks import checkpoints, distributed
from ssl_tasks.data.loader import Images, seed_of
from ssl_tasks.finetune.classification import Classification
from ssl_tasks.finetune.labels import Labelled
from ssl_tasks.learner import Learner, Look
from ssl_tasks.method import Method
from ssl_tasks.monitors import SAMPLE
from ssl_tasks.tracking import Tracker

PIECE = 256
"""Images that are read and classified at a time."""


class Looks:
    """The monitors, and besides them `accuracy`, on a sample of the images that are trained on, and `held_out_accuracy`.

    The weights of the look with the highest accuracy on held-out images, the last of several, are kept in the work folder; not those from
    before the first step. They follow from the looks alone, so that a training which was stopped and goes on ends with the same ones.

    Args:
        look: the monitors.
        images: uint8 (N, C, S, S), of which `labelled` tells.
    """

    def __init__(self, look: Look, images: Images, labelled: Labelled, seed: int, job: Job, device: torch.device) -> None:
        self._look, self._images, self._labelled, self._job, self._device = look, images, labelled, job, device
        sample = np.random.default_rng(seed_of(seed, "accuracy")).permutation(labelled.rows)[:SAMPLE]
        self._sample = np.sort(sample)
        self._folder = job.work / "best"
        self._best: int = (self._kept() or {"right": -1})["right"]

    def __call__(self, method: Method) -> dict[str, float]:
        assert isinstance(method, Classification)
        seen = {**self._look(method), "accuracy": self._right(method, self._sample) / len(self._sample)}
        if not len(self._labelled.held_out):
            return seen
        right = self._right(method, self._labelled.held_out)
        if method.has_begun and right >= self._best:
            self._best = right
            if distributed.is_main():
                checkpoints.save_training(self._folder, right, {"method": method.state_dict(), "right": right}, self._job.key)
        return {**seen, "held_out_accuracy": right / len(self._labelled.held_out)}

    def settle(self, learner: Learner, tracker: Tracker) -> None:
        """After the last step: give the classifier the weights that were best on held-out images, where there are any."""
        count = len(self._labelled.held_out)
        if not count or not distributed.is_main():
            return
        kept = self._kept()
        assert kept
        learner.method.load_state_dict(kept["method"])
        best = kept["right"] / count
        step = next(point["step"] for point in reversed(learner.curve) if math.isclose(point.get("monitor/held_out_accuracy", -1), best))
        learner.record({"kept_from_step": step, "kept_held_out_accuracy": best}, tracker)
        tracker.note(f"keeps the weights of step {step:g}, which classify {best:.1%} of {count:,} held-out images right")

    def _kept(self) -> dict[str, Any] | None:
        return checkpoints.load_training(self._folder, self._job.key)[0]

    def _right(self, method: Classification, rows: NDArray[np.int64]) -> int:
        """How many images are classified as labelled."""
        right = 0
        for each in (rows[start : start + PIECE] for start in range(0, len(rows), PIECE)):
            images, numbers = (torch.from_numpy(part).to(self._device) for part in (self._images[each], self._labelled.numbers[each]))
            right += int((method.classified(images) == numbers).sum())
        return right
