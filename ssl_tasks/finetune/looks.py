"""Looks: what the monitors see of a classifier in training, and the best of its weights on held-out images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.job import Job
from ssl_tasks import checkpoints, distributed
from ssl_tasks.data.loader import Images, seed_of
from ssl_tasks.finetune.classification import Classification
from ssl_tasks.finetune.labels import Labelled
from ssl_tasks.learner import Learner, Look
from ssl_tasks.method import Method
from ssl_tasks.monitors import SAMPLE
from ssl_tasks.tracking import Tracker


class Looks:
    """The monitors, and besides them `accuracy`, on a sample of the images that are trained on, and `held_out_accuracy`.

    The weights of the look with the highest accuracy on held-out images, the last of several, are kept in the work folder; not those from
    before the first step. They follow from the looks alone, so that a training which was stopped and goes on ends with the same ones.

    Args:
        look: the monitors.
        images: uint8 (N, C, S, S), of which `labelled` tells.
    """

    def __init__(self, look: Look, images: Images, labelled: Labelled, seed: int, job: Job, device: torch.device) -> None:
        sample = np.random.default_rng(seed_of(seed, "accuracy")).permutation(labelled.rows)[:SAMPLE]
        self._look, self._device, self._job = look, device, job
        self._trained, self._held_out = (self._taken(images, labelled, np.sort(rows)) for rows in (sample, labelled.held_out))
        self._folder = job.work / "best"
        self._best: int = (self._kept() or {"right": -1})["right"]

    def __call__(self, method: Method) -> dict[str, float]:
        assert isinstance(method, Classification)
        seen = {**self._look(method), "accuracy": method.right(*self._trained) / len(self._trained[1])}
        if not len(self._held_out[1]):
            return seen
        right = method.right(*self._held_out)
        if method.has_begun and right >= self._best and distributed.is_main():
            checkpoints.save_training(self._folder, right, {"method": method.state_dict(), "right": right}, self._job.key)
        self._best = max(right, self._best) if method.has_begun else self._best
        return {**seen, "held_out_accuracy": right / len(self._held_out[1])}

    def settle(self, learner: Learner, tracker: Tracker) -> None:
        """After the last step: give the classifier the weights that were best on held-out images, where there are any."""
        if not len(self._held_out[1]) or not distributed.is_main():
            return
        kept = self._kept()
        assert kept
        learner.method.load_state_dict(kept["method"])
        best = kept["right"] / len(self._held_out[1])
        step = next(point["step"] for point in reversed(learner.curve) if point.get("monitor/held_out_accuracy") == best)
        learner.record({"kept_from_step": step, "kept_held_out_accuracy": best}, tracker)
        tracker.note(f"keeps the weights of step {step:g}, which classify {best:.1%} of {len(self._held_out[1])} held-out images right")

    def _kept(self) -> dict[str, Any] | None:
        return checkpoints.load_training(self._folder, self._job.key)[0]

    def _taken(self, images: Images, labelled: Labelled, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(images[rows]).to(self._device), torch.from_numpy(labelled.numbers[rows]).to(self._device)
