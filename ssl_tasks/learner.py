"""Learner: one method in training, with its optimizer, its curve and its checkpoints. The loop in `train.py` drives it."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import Collapse
from schemas.training import FITTING, Train
from ssl_tasks import checkpoints, collapse, distributed, early_stop, monitors, optimizers, sharding
from ssl_tasks.data.loader import seed_of
from ssl_tasks.failures import NotFinite
from ssl_tasks.method import Method
from ssl_tasks.nn.encoder import encoders_that_learn
from ssl_tasks.replicas import across_ranks
from ssl_tasks.schedules import learning_rate, weight_decay
from ssl_tasks.tracking import Tracker

_STEADIER = "lower train.optimizer.learning_rate, raise train.warmup, or set train.clip to 1"
GOOD = "good"
"""Folder, in that of the checkpoints, of those that a look found well."""
Look = Callable[[Method], dict[str, float]]
"""What monitors see of a method; it may change nothing of it."""


class Learner:
    """A method in training and what is its own, whoever learns beside it.

    Attributes:
        name: prefix of its metrics; empty where it learns alone.
        done: how many steps are behind it.
        curve: the numbers that the tracker gets, without the name; each point with its `step`.
        looks: what the monitors saw, in order.
        seconds: of training so far, over all processes that worked on it.
        paced: steps and seconds without each process's first step, which warms up caches and kernels.
        waited: of the seconds, those that a step had to wait for its images.
        saved: the step of the last checkpoint.
        failure: what ended its training too early.
        fell_back: whether it ended early with the weights of the last look that found nothing wrong.
        stalled: whether it ended early since it no longer improved.
        learning_rate: of the last step.
        gradient_norm: of the last step that was asked for it, before clipping.
    """

    def __init__(self, name: str, method: Method, config: Train, batch_size: int, seed: int, folder: Path, device: torch.device) -> None:
        self.name, self.config, self.batch_size, self.seed, self.folder, self.device = name, config, batch_size, seed, folder, device
        self.method = method.train()
        self.model: nn.Module = self.method
        self._hull: Method | None = None
        self.done = 0
        self.curve: list[dict[str, float]] = []
        self.looks: list[dict[str, float]] = []
        self.seconds = 0.0
        self.paced = (0, 0.0)
        self.waited = 0.0
        self.saved = 0
        self.failure: Exception | None = None
        self.fell_back = self.stalled = False
        self.learning_rate = 0.0
        self.gradient_norm: Tensor | None = None
        self._trained: list[nn.Parameter] = []
        self._unread: list[Tensor] = []
        self._names: tuple[str, ...] = ()

    def prepare(self) -> "Learner":
        """Move the method to its device and build its optimizer; one that failed before is moved only where others look at it. Returns itself."""
        if self.failure:
            self.method.to(self.device if self.method.cohort else "cpu")
            return self
        self.model, self._hull = across_ranks(self.method, self.config, self.device)
        for encoder in encoders_that_learn(self.method):
            encoder.train_as(self.config)
        self.optimizer = optimizers.build(self.config, self.method)
        self._trained = [p for p in self.method.parameters() if p.requires_grad]
        return self

    def step(self, inputs: tuple[Any, ...], steps: int, measures: bool = False) -> None:
        """One step of `steps`.

        Args:
            inputs: what the method's forward takes before `progress`: the views, and for a student also the targets.
            measures: whether the gradient's norm is wanted.
        """
        progress = self.done / steps
        _seed_torch(seed_of(self.seed, self.name, distributed.rank(), self.done), self.device)
        with self.autocast():
            named: dict[str, Tensor] = self.model(*inputs, progress)
        terms = torch.stack([term.float() for term in named.values()])
        self._names = tuple(named)
        self._unread.append(terms.detach())
        self.optimizer.zero_grad()
        torch.autograd.backward(terms.sum())
        if self.config.clip:
            self.gradient_norm = sharding.whole(nn.utils.clip_grad_norm_(self._trained, self.config.clip))
        elif measures:
            self.gradient_norm = sharding.whole(nn.utils.get_total_norm([p.grad for p in self._trained if p.grad is not None]))
        self.method.before_step(progress)
        # Read in the middle of the step: neither the first, at the foot of the warm-up, nor the last is lost to a rate of zero.
        middle = (self.done + 0.5) / steps
        place, factor = self.method.pace(middle)
        self.learning_rate = factor * learning_rate(place, self.config, self.config.peak_rate(self.batch_size))
        optimizers.set_rates(self.optimizer, self.learning_rate, weight_decay(middle, self.config))
        self.optimizer.step()
        self.method.after_step(progress)
        self.done += 1

    def autocast(self) -> torch.autocast:
        """The precision that forwards run in: bfloat16 on CUDA where the config says so, float32 elsewhere."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda" and self.config.bfloat16)

    @property
    def loss(self) -> float:
        """Of the last step, on this rank; reading it waits for the device."""
        return self._unread[-1].sum().item() if self._unread else math.nan

    def read(self) -> dict[str, float]:
        """Loss and terms of the last step, averaged over ranks, which must all ask at the same step; learning rate and gradient norm.

        Steps since the last call are looked at only now: each look waits for the device.

        Raises:
            NotFinite: where a step since the last call had a term that is not finite.
        """
        values = distributed.mean(torch.stack(self._unread)).tolist()
        self._unread = self._unread[-1:]
        for step, row in enumerate(values, start=self.done - len(values) + 1):
            for name, value in zip(self._names, row, strict=True):
                if not math.isfinite(value):
                    raise NotFinite(f"{self._label}loss term '{name}' is {value} at step {step}: {_STEADIER}", step, name)
        terms = {f"train/{name}": value for name, value in zip(self._names, values[-1], strict=True)}
        norm = {} if self.gradient_norm is None else {"train/gradient_norm": self.gradient_norm.item()}
        return {"train/loss": sum(values[-1]), **(terms if len(terms) > 1 else {}), **norm, "train/learning_rate": self.learning_rate}

    def record(self, values: dict[str, float], tracker: Tracker, timings: dict[str, float] | None = None) -> None:
        """Add numbers of this step to the curve and give them to the tracker, with timings, which are another run's no more."""
        self.curve.append({"step": self.done, **values})
        tracker.metrics({f"{self.name}/{key}" if self.name else key: value for key, value in {**values, **(timings or {})}.items()}, self.done)

    def look(self, look: Look, tracker: Tracker, steps: int) -> None:
        """Let the monitors look at the method as it is, and do what the config says about what they find wrong.

        Raises:
            NotFinite: where there is nothing to look at, since loss or weights are not finite.
            UserError: where a rule is on something that is not measured.
            Collapse: where a finding is to stop the training, or there is nothing to fall back on.
        """
        if self._unread:
            self.check()
        with monitors.evaluating(self.method):
            seen = self.model.look(look) if isinstance(self.model, sharding.Sharded) else look(self.method)
        agreed = distributed.mean(torch.tensor(list(seen.values()), dtype=torch.float64, device=self.device))
        seen = dict(zip(seen, agreed.tolist(), strict=True))  # all ranks must find the same
        self.record({f"monitor/{key}": value for key, value in seen.items()}, tracker)
        if not self.looks:
            collapse.check_metrics(self.config, seen)
            early_stop.check_metric(self.config.early_stop, seen)
        classifies = float(self.method.classifier() is not None)
        self.looks.append({**seen, "progress": self.done / steps, "classifies": classifies, **self._trained_numbers()})
        for finding in collapse.news(self.looks, self.config):
            message = f"{self._label}{finding.what} at step {self.done}: {finding.why}"
            if finding.then == "stop":
                raise Collapse(message)
            if finding.then == "fall_back":
                return self._fall_back(message, tracker)
            tracker.note(message)
        if self.done and collapse.falls_back(self.config) and collapse.is_well(self.looks, self.config):
            self.save(self.folder / GOOD)
        if self.done < steps and (why := early_stop.stalled(self.looks, self.config.early_stop)):
            self.stalled = True
            self.record({"ended_early_at_step": self.done}, tracker)
            tracker.note(f"{self._label}ends early at step {self.done} of {steps} with the weights it has: {why}")
        return None

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more steps though its budget is not spent: by failure, because it fell back, or because it no longer improved."""
        return self.fell_back or self.stalled or self.failure is not None

    def _trained_numbers(self) -> dict[str, float]:
        """Loss and gradient norm of the last step; none before the first."""
        if not self._unread:
            return {}
        read = self.read()
        return {name: read[f"train/{name}"] for name in collapse.TRAINED if f"train/{name}" in read}

    def _fall_back(self, message: str, tracker: Tracker) -> None:
        state, _ = checkpoints.load_training(self.folder / GOOD, self.identity())
        if state is None:
            raise Collapse(f"{message}; there is nothing to fall back on, no look found all well")
        self._restore({**state, "own": {name: state["own"][name] for name in ("done", "curve", "looks")}})
        self.fell_back = True
        self.record({"fell_back_to_step": self.done}, tracker)
        tracker.note(f"{message}; the training ends with the weights of step {self.done}, the last look that found nothing wrong")

    def check(self) -> None:
        """See that loss and weights are finite after the last step; all ranks must ask.

        Raises:
            NotFinite: where they are not.
        """
        self.read()
        if not torch.stack([sharding.whole(parameter.detach().isfinite().all()) for parameter in self.method.parameters()]).all():
            raise NotFinite(f"{self._label}weights are not finite after step {self.done}, whose loss is: {_STEADIER}", self.done, "weights")

    def save(self, folder: Path | None = None) -> None:
        """Write what a resume needs. Only the main rank writes, but all ranks must ask.

        Args:
            folder: another one than that from which the training resumes.

        Raises:
            NotFinite: where the loss or the weights are no longer finite, which no checkpoint may hold.
            UserError: where the disk takes no more.
        """
        self.check()
        own = {name: getattr(self, name) for name in ("done", "curve", "looks", "seconds", "paced", "waited")}
        state = {name: sharding.gathered(part.state_dict()) for name, part in (("method", self.method), ("optimizer", self.optimizer))}
        if distributed.is_main():
            checkpoints.save_training(folder or self.folder, self.done, {"own": own, "ranks": distributed.world_size(), **state}, self.identity())
        if folder is None:
            self.saved = self.done

    def resume(self, tracker: Tracker, kept: tuple[dict[str, Any] | None, list[str]] | None = None) -> None:
        """Go on from the newest whole checkpoint of this very training, or from the one given; stay at the start where there is none.

        Args:
            kept: a checkpoint's state, and why newer ones were passed over.
        """
        state, passed_over = kept or checkpoints.load_training(self.folder, self.identity())
        if state is not None:
            self._restore(state)
            self.saved = self.done
        for reason in passed_over:
            tracker.note(f"{self._label}{reason} and is passed over")
        if (state is not None or passed_over) and not self.failure:
            before, now = (state or {}).get("ranks", distributed.world_size()), distributed.world_size()
            changed = f"; devices now {now}, before {before}: only rounding and the draws of dropout and stochastic depth differ by that"
            tracker.note(f"{self._label}goes on from step {self.done}{changed if before != now else ''}")

    def _restore(self, state: dict[str, Any]) -> None:
        if self.failure:
            self.method.load_state_dict(state["method"])
        else:
            sharding.load(self.method, self.optimizer, state["method"], state["optimizer"])
        vars(self).update(state["own"])
        self.stalled = bool(early_stop.stalled(self.looks, self.config.early_stop))

    def release(self) -> None:
        """Let go of what only further steps need: gradients, the optimizer's state, and after a failure the device, unless others look at it there."""
        self.method.zero_grad()
        if self._trained:
            self.optimizer.state.clear()
        if self._hull is None:
            self.model = self.method
            if self.failure and not (self.method.cohort and self.done):
                self.method.cpu()

    def unshard(self) -> None:
        """After the last step, let method and optimizer hold whole tensors, on the CPU of the main rank; nothing where they do."""
        if self._hull is not None:
            state = sharding.gathered(self.optimizer.state_dict())
            self.method = sharding.filled(self._hull, self.method)
            if distributed.is_main():
                self.optimizer = optimizers.build(self.config, self.method)
                self.optimizer.load_state_dict(state)

    def summary(self, batch_size: int) -> dict[str, float]:
        """What an artifact states of the training: last loss, last look of the monitors, images seen, seconds, speed."""
        return {
            **{key: value for point in self.curve for key, value in point.items() if key != "step"},
            "images_seen": self.done * batch_size,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second(batch_size), 1),
            "data_seconds": round(self.waited, 3),
        }

    def images_per_second(self, batch_size: int) -> float:
        """Speed without start-up, for batches of `batch_size` over all ranks."""
        steps, seconds = self.paced if self.paced[0] else (self.done, self.seconds)
        return steps * batch_size / max(seconds, 1e-9)

    @property
    def _label(self) -> str:
        return f"{self.name}: " if self.name else ""

    def identity(self) -> str:
        """Of this training: a checkpoint of another config, seed or architecture must not be resumed from; how it fits into memory is free."""
        shapes = {name: list(value.shape) for name, value in self.method.state_dict().items()}
        return hashlib.sha256(f"{self.config.model_dump_json(exclude=FITTING)}:{self.seed}:{self.name}:{shapes}".encode()).hexdigest()


def _seed_torch(seed: int, device: torch.device) -> None:
    """Seed what methods draw from, such as dropout; torch.manual_seed takes 40 times as long and seeds devices that nobody uses."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
