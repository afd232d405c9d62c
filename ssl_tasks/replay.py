"""Replay of a step that made the loss or the weights infinite or not a number: `sslflow replay FOLDER`.

Every step is a function of the last checkpoint and of (seed, step), so the stage is run again from there, by the same code, up to that
step, and each of its steps is looked at. What is found first is told: the first step, in it the first module by its output and the
first parameter by its gradient. `python -m ssl_tasks.replay FOLDER` does the same.
"""

import math
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from schemas.errors import UserError
from schemas.job import ARTIFACTS, Job
from schemas.stages import Finetune, Pretrain, Tokenizer
from ssl_tasks import failures
from ssl_tasks.failures import Failure
from ssl_tasks.finetune import finetune
from ssl_tasks.learner import Learner
from ssl_tasks.pretrain import pretrain
from ssl_tasks.tokenizer import train_tokenizer
from ssl_tasks.tracking import Silent
from ssl_tasks.weights import few

_RUNS = {Pretrain: pretrain, Finetune: finetune, Tokenizer: train_tokenizer}
"""What runs the stages that can be replayed."""


@dataclass
class Step:
    """What is seen of one step.

    Attributes:
        number: from 1.
        terms: of the loss.
        output: the first module whose output is not finite, in the order of the forward pass; empty where there is none.
        gradients: the largest absolute gradient of each parameter, in the order of the backward pass.
        learning_rate: of the step.
        weights: parameters that are not finite after the step.
    """

    number: int
    terms: dict[str, float] = field(default_factory=dict)
    output: str = ""
    gradients: dict[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    weights: list[str] = field(default_factory=list)

    @property
    def gradient(self) -> str:
        """The first parameter whose gradient is not finite, in the order of the backward pass; empty where there is none."""
        return next((name for name, value in self.gradients.items() if not math.isfinite(value)), "")

    @property
    def wrong(self) -> list[str]:
        """Loss terms that are not finite, and `weights` where these are not."""
        return [name for name, value in self.terms.items() if not math.isfinite(value)] + ["weights"] * bool(self.weights)


class Reached(Exception):
    """The step that was asked for is done."""


class Watch:
    """Looks at each step of a learner until one is done.

    Attributes:
        steps: what was seen, in order.
    """

    def __init__(self, until: int) -> None:
        self.until = until
        self.steps: list[Step] = []
        self._open = False

    def __call__(self, learner: Learner) -> None:
        """Begin to look."""
        method = learner.method
        method.register_forward_pre_hook(lambda *_: self._begin(learner.done + 1))
        for name, module in method.named_modules():
            module.register_forward_hook(partial(self._see_output, name))
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(partial(self._see_gradient, name))  # type: ignore[no-untyped-call]  # of torch
        learner.optimizer.register_step_post_hook(lambda *_: self._end(learner))

    def _begin(self, number: int) -> None:
        if not self._open:
            self.steps.append(Step(number))
            self._open = True

    def _see_output(self, name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        if not self._open:
            return
        if not name:
            self.steps[-1].terms = {term: value.item() for term, value in output.items()}
        elif not self.steps[-1].output and not all(map(_finite, tree_leaves(output))):
            self.steps[-1].output = f"{name} ({type(module).__name__})"

    def _see_gradient(self, name: str, parameter: Tensor) -> None:
        if self._open and parameter.grad is not None:
            self.steps[-1].gradients[name] = parameter.grad.abs().max().item()

    def _end(self, learner: Learner) -> None:
        step = self.steps[-1]
        step.learning_rate = learner.learning_rate
        step.weights = [name for name, parameter in learner.method.named_parameters() if not _finite(parameter)]
        self._open = False
        if step.number >= self.until:
            raise Reached


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(value.isfinite().all())


@dataclass(frozen=True)
class Replay:
    """What became of running a failed step again.

    Attributes:
        failure: what was kept of it.
        steps: what was seen of each step since the last checkpoint.
        operation: whose gradient is the first that is not a number, and its line of code, by autograd's anomaly detection; may be empty.
    """

    failure: Failure
    steps: list[Step]
    operation: str

    @property
    def reproduced(self) -> bool:
        """Whether the step went wrong as it did."""
        return bool(self.steps) and self.steps[-1].number == self.failure.step and self.failure.term in self.steps[-1].wrong

    def __str__(self) -> str:
        failure, last = self.failure, self.steps[-1]
        first = next((step for step in self.steps if step.wrong), last)
        before = [step for step in self.steps if step.number == first.number - 1]
        now = failures.versions()
        told = [f"stage {failure.job.name}: {failure.message}", f"run again from step {self.steps[0].number}"]
        told += [line for step in (*before, first) for line in _told(step)]
        told += [f"  operation: {self.operation}"] if self.operation else []
        told += _told(last) if last is not first else []
        told += [f"{name} is {now[name]}, and was {old}" for name, old in failure.versions.items() if now[name] != old]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        told += [f"on {device}, and the training was on {failure.device}: sums are rounded otherwise"] if device != failure.device else []
        told += [f"one process, and there were {failure.ranks}: sums are rounded otherwise"] if failure.ranks > 1 else []
        same = f"{failure.term} not finite at step {failure.step}, as in the training"
        return "\n".join([*told, f"reproduced: {same}" if self.reproduced else f"not reproduced: at step {last.number} all is finite"])


def _told(step: Step) -> list[str]:
    """A step in lines, as one reads it."""
    finite = {name: value for name, value in step.gradients.items() if math.isfinite(value)}
    largest = max(finite, key=lambda name: finite[name], default="")
    terms = ", ".join(f"{name} {value:.6g}" for name, value in step.terms.items())
    lines = [f"step {step.number}: {terms}, learning rate {step.learning_rate:.3g}"]
    lines += [f"  largest finite gradient: {finite[largest]:.3g} of {largest}"] if largest else []
    lines += [f"  first output that is not finite: {step.output}"] if step.output else []
    rest = f"{len(step.gradients) - len(finite)} of {len(step.gradients)} are not"
    lines += [f"  first gradient that is not finite: {step.gradient}; {rest}"] if step.gradient else []
    lines += [f"  weights not finite after it: {few(step.weights)}"] if step.weights else []
    return lines


def replay(folder: Path) -> Replay:
    """Run a stage from its last checkpoint to the step that failed.

    Raises:
        UserError: where the folder holds no failure of a pretrain, finetune or tokenizer stage, or what the stage takes from is gone.
    """
    failure = failures.read(folder)
    job = failure.job
    if not isinstance(job.stage, tuple(_RUNS)):
        raise UserError(f"{folder} is of a {job.stage.kind} stage; only a pretrain, finetune or tokenizer stage can be replayed")
    if gone := [text for text, key in job.inputs.items() if not job.folder(key).is_dir()]:
        raise UserError(f"{', '.join(gone)} is no longer under {job.workspace / ARTIFACTS}: run the pipeline again")
    torch.set_num_threads(failure.threads)
    steps = _run(job, failure.step)
    wrong = next((step.number for step in steps if step.wrong), None)
    return Replay(failure, steps, _operation(job, wrong) if wrong else "")


def _run(job: Job, until: int) -> list[Step]:
    watch = Watch(until)
    with suppress(Reached):
        _RUNS[type(job.stage)](job, Silent(), watch)
    return watch.steps


def _operation(job: Job, until: int) -> str:
    with warnings.catch_warnings(record=True) as caught, torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("always")
        try:
            _run(job, until)
        except RuntimeError as error:
            if "returned nan values" not in str(error):
                raise
            traces = [str(warning.message).partition(" (Triggered internally")[0] for warning in caught if "Traceback of forward" in str(warning.message)]
            place = " ".join(traces[-1].split("\n  File ")[-1].split()) if traces else ""
            return f"{error} {place}"
    return ""


def main(folder: Path) -> int:
    """Replay and print; 0 where the step went wrong again."""
    done = replay(folder)
    print(done)
    return 0 if done.reproduced else 1


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except UserError as unfit:
        sys.exit(str(unfit))
