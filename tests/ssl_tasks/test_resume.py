"""A training that is killed, stopped or cut off goes on and ends where it would have ended anyway, bit for bit."""

import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_methods import CASES, inputs, members
from tiny_training import SIMCLR, TRAIN, VIEWS, Recorder, process, ranks, stripes, train, weights
from torch import Tensor

from schemas import methods as configs
from schemas.distillers import Distiller
from schemas.errors import UserError
from schemas.training import SGD
from ssl_tasks import distributed
from ssl_tasks.learner import Learner
from ssl_tasks.train import Seat, fit_together

LONG = TRAIN.model_copy(update={"epochs": 16.0, "checkpoint_steps": 7})
"""80 steps, a checkpoint every 7."""


KILLED = TRAIN.model_copy(update={"epochs": 6.0, "checkpoint_steps": 4})
"""30 steps, a checkpoint every 4."""
ONE_EACH = list({name.rpartition("-")[0]: name for name in CASES}.values())
"""Every method and distiller, on a ConvNet where it takes one."""


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Killed at random times, so also between two steps, within one, and while a checkpoint is written."""
    expected = _train_case(name, tmp_path / "whole", Recorder())
    rng = random.Random(name)
    kills = 0
    while True:
        child = process(_train_case_and_keep, name, tmp_path)
        if kills < 3:
            _wait_for_steps(tmp_path / "steps", rng.randint(3, 9), child)
            time.sleep(rng.uniform(0, 0.01))
            child.kill()
        child.join(60)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kills += 1
    assert kills == 3
    assert torch.load(tmp_path / "weights.pt", weights_only=True).keys() == expected.method.state_dict().keys()
    assert (tmp_path / "bytes").read_text() == repr(weights(expected.method))
    assert (tmp_path / "curve").read_text() == repr(expected.curve)


def test_every_method_is_among_those_killed() -> None:
    assert len(ONE_EACH) == len(members(configs.Method)) + len(members(Distiller))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 1)], ids=["SIGTERM", "SIGINT"])
def test_a_training_told_to_stop_goes_on_from_that_very_step(tmp_path: Path, number: int, code: int) -> None:
    """Python ends a multiprocessing child with status 1 on KeyboardInterrupt."""
    settings = LONG.model_copy(update={"checkpoint_steps": 1000})
    expected = train(SIMCLR, tmp_path / "whole", settings=settings)
    child = process(_train_and_keep, SIMCLR, tmp_path, 1000)
    _wait_for_steps(tmp_path / "steps", 20, child)
    os.kill(child.pid or 0, number)
    os.kill(child.pid or 0, number)  # the terminal's process group and the parent may both tell it
    child.join(60)
    assert child.exitcode == code
    stopped = int((tmp_path / "steps").read_text().splitlines()[-1])
    assert [path.name for path in _checkpoints(tmp_path / "work")] == [f"step-{stopped:09d}.pt"]
    tracker = Recorder()
    learner = train(SIMCLR, tmp_path / "work", settings=settings, tracker=tracker)
    assert tracker.notes == [f"goes on from step {stopped}"]
    assert tracker.points[0][0] == stopped + 1
    assert weights(learner.method) == weights(expected.method)


def test_ranks_of_which_one_is_told_to_stop_stop_together_and_one_process_can_go_on(tmp_path: Path) -> None:
    ranks(2, _stop_second_rank, tmp_path)
    assert (tmp_path / "rank0").read_text() == "KeyboardInterrupt"
    assert (tmp_path / "rank1").read_text() == "SystemExit"
    assert [path.name for path in _checkpoints(tmp_path / "work")] == ["step-000000021.pt"]
    tracker = Recorder()
    resumed = train(SIMCLR, tmp_path / "work", settings=SHARED, tracker=tracker).method.state_dict()
    changed = "devices now 1, before 2: only rounding and the draws of dropout and stochastic depth differ by that"
    assert tracker.notes == [f"goes on from step 21; {changed}"]
    for name, value in train(SIMCLR, tmp_path / "whole", settings=SHARED).method.state_dict().items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-4, atol=1e-5, msg=name)


SHARED = TRAIN.model_copy(update={"epochs": 6.0, "checkpoint_steps": 1000, "optimizer": SGD(learning_rate=0.005)})
"""Adam, or ten times this rate, would blow up the rounding by which two ranks differ from one process, step by step."""


def _stop_second_rank(folder: Path) -> None:
    class Stopping(Recorder):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            if step == 13 and distributed.rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    try:
        train(SIMCLR, folder / "work", settings=SHARED, tracker=Stopping())
    except (KeyboardInterrupt, SystemExit) as stopped:
        (folder / f"rank{distributed.rank()}").write_text(type(stopped).__name__)


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = train(SIMCLR, tmp_path)
    tracker = Recorder()
    again = train(SIMCLR, tmp_path, tracker=tracker)
    assert tracker.notes == ["goes on from step 20"]
    assert tracker.points == []
    assert weights(again.method) == weights(first.method)
    assert again.curve == first.curve
    assert again.summary(16) == first.summary(16)


def test_a_checkpoint_that_was_cut_short_gives_way_to_the_one_before(tmp_path: Path) -> None:
    first = train(SIMCLR, tmp_path)
    previous, newest = sorted(_checkpoints(tmp_path))
    newest.write_bytes(newest.read_bytes()[:-1000])
    tracker = Recorder()
    assert weights(train(SIMCLR, tmp_path, tracker=tracker).method) == weights(first.method)
    assert tracker.notes == ["checkpoint step-000000020.pt is damaged and is passed over", "goes on from step 15"]
    assert previous.name == "step-000000015.pt"


def test_without_a_whole_checkpoint_the_training_starts_again(tmp_path: Path) -> None:
    first = train(SIMCLR, tmp_path)
    for path in _checkpoints(tmp_path):
        path.write_bytes(b"")
    tracker = Recorder()
    assert weights(train(SIMCLR, tmp_path, tracker=tracker).method) == weights(first.method)
    assert tracker.notes[-1] == "goes on from step 0"


def test_a_checkpoint_of_another_config_is_passed_over(tmp_path: Path) -> None:
    other = TRAIN.model_copy(update={"optimizer": SGD()})
    expected = train(SIMCLR, tmp_path / "clean", settings=other)
    train(SIMCLR, tmp_path / "used")
    tracker = Recorder()
    learner = train(SIMCLR, tmp_path / "used", settings=other, tracker=tracker)
    assert "checkpoint step-000000020.pt is of another training and is passed over" in tracker.notes
    assert weights(learner.method) == weights(expected.method)


def test_a_full_disk_ends_the_training_with_what_to_do_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """The file that the third checkpoint is first written to leads to a device that is always full."""
    folder = tmp_path / "checkpoints/model"
    folder.mkdir(parents=True)
    (folder / "step-000000015.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*step-000000015.pt \(No space left on device\): make room on its disk"):
        train(SIMCLR, tmp_path)
    assert [path.name for path in sorted(_checkpoints(tmp_path))] == ["step-000000005.pt", "step-000000010.pt"]
    tracker = Recorder()
    train(SIMCLR, tmp_path, tracker=tracker)
    assert tracker.notes == ["goes on from step 10"]


def _checkpoints(workdir: Path) -> list[Path]:
    return list((workdir / "checkpoints/model").glob("*.pt"))


def _wait_for_steps(file: Path, count: int, child: object) -> None:
    """Wait until a child has done some steps in its own run, or has ended."""
    start = len(file.read_text().splitlines()) if file.exists() else 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and getattr(child, "exitcode", None) is None:
        if file.exists() and len(file.read_text().splitlines()) >= start + count:
            return
        time.sleep(0.002)


class _Steps(Recorder):
    """Appends the number of each step to a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        with self.file.open("a") as file:
            file.write(f"{step}\n")


def _train_and_keep(config: configs.Method, folder: Path, checkpoint_steps: int = 7) -> None:
    torch.set_num_threads(1)
    settings = LONG.model_copy(update={"checkpoint_steps": checkpoint_steps})
    train(config, folder / "work", settings=settings, tracker=_Steps(folder / "steps"))


def _train_case(name: str, workdir: Path, tracker: Recorder) -> Learner:
    """Train a method on stripes; a student under a teacher with random weights."""
    torch.set_num_threads(1)
    method = CASES[name].make(images=len(stripes()[0]))

    def targets(views: list[Tensor], seat: Seat) -> Any:
        return inputs(method, views, seed=seat.step)[1]

    needed = targets if isinstance(CASES[name].config, tuple(members(Distiller))) else None
    images = stripes(80, 18, CASES[name].encoder.channels)[0]
    return fit_together({"": method}, images, KILLED, seed=3, workdir=workdir, tracker=tracker, targets=needed)[""]


def _train_case_and_keep(name: str, folder: Path) -> None:
    learner = _train_case(name, folder / "work", _Steps(folder / "steps"))
    torch.save(learner.method.state_dict(), folder / "weights.pt")
    (folder / "bytes").write_text(repr(weights(learner.method)))
    (folder / "curve").write_text(repr(learner.curve))


TRAINED = [
    configs.SimCLR(hidden=16, output=8, layers=3, export_layer=1, decoupled=True, views=VIEWS),
    configs.MoCoV2(hidden=16, output=8, queue=40, momentum=0.9, views=VIEWS),
    configs.MoCoV3(hidden=16, output=8, views=VIEWS),
]


@pytest.mark.parametrize("config", TRAINED, ids=lambda config: config.kind)
def test_a_training_that_lost_its_last_steps_ends_with_the_same_bytes(tmp_path: Path, config: configs.Method) -> None:
    whole = train(config, tmp_path)
    newest = max((tmp_path / "checkpoints/model").glob("*.pt"))
    assert newest.name == "step-000000020.pt"
    newest.unlink()
    again = train(config, tmp_path)
    assert weights(again.method) == weights(whole.method)
    assert again.curve == whole.curve
