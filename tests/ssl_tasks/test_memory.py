"""A training whose memory is full or whose device is gone says so in a line that helps, and loses nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from tiny_training import Brightness, Recorder, ranks, stripes, weights
from torch import Tensor
from torch import distributed as dist

from schemas.errors import TryAgain
from schemas.training import Train
from ssl_tasks import distributed
from ssl_tasks.data.draw import Draw
from ssl_tasks.memory import DeviceLost, OutOfMemory, explained, fitting
from ssl_tasks.method import Terms
from ssl_tasks.train import fit, fit_together

TRAIN = Train(epochs=5, batch_size=4, checkpoint_steps=3)
"""10 steps on 8 images."""


class Failing(Brightness):
    """Fails in its n-th forward."""

    def __init__(self, at: int, fail: Callable[[], object]) -> None:
        super().__init__()
        self.at, self.fail = at, fail

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        terms = super().forward(views, progress)
        if sum(name == "forward" for name, _ in self.calls) == self.at:
            self.fail()
        return terms


class FailingViews(Failing):
    """Fails in making the views instead."""

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        if sum(name == "forward" for name, _ in self.calls) == self.at - 1:
            self.fail()
        return super().views(images, draw)


def ask_for_too_much() -> None:
    torch.empty(10**15)


def raising(error: Exception) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail


FULL = {
    "CPU": ask_for_too_much,
    "CUDA": raising(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ...\nmore")),
    "Python": raising(MemoryError()),
}
GONE = {
    "CUDA": raising(torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")),
    "NCCL": raising(dist.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:94, remote process exited or there was a network error")),
    "Gloo": raising(RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:52914")),
}


def trained(method: Brightness, folder: Path, settings: Train = TRAIN) -> Brightness:
    torch.manual_seed(0)
    method.layer.reset_parameters()
    fit(method, stripes(8)[0], settings, seed=0, workdir=folder, tracker=Recorder())
    return method


@pytest.mark.parametrize("fail", FULL.values(), ids=FULL)
@pytest.mark.parametrize("method", [Failing, FailingViews], ids=["in the step", "in the views"])
def test_full_memory_names_what_to_set_and_the_training_goes_on_under_it(tmp_path: Path, fail: Callable[[], object], method: type[Failing]) -> None:
    with pytest.raises(OutOfMemory) as error:
        trained(method(5, fail), tmp_path / "used")
    assert str(error.value) == (
        "out of memory at step 5 with 4 images a step: set train.accumulate to 2, or train.activation_checkpointing to true, and the training "
        "goes on from step 3; or set train.batch_size to 2 or less, which starts it again"
    )
    resumed = trained(Brightness(), tmp_path / "used", TRAIN.model_copy(update={"accumulate": 2, "activation_checkpointing": True}))
    assert [name for name, _ in resumed.calls].count("forward") == 7
    assert weights(resumed) == weights(trained(Brightness(), tmp_path / "whole"))


@pytest.mark.parametrize("fail", GONE.values(), ids=GONE)
def test_a_lost_device_names_the_checkpoint_and_may_be_tried_again(tmp_path: Path, fail: Callable[[], object]) -> None:
    """No mistake of the user's: the flow's retry is to mend it."""
    with pytest.raises(DeviceLost, match=r"a device, or the connection to one, failed at step 5 \(.*\): run again; the training goes on from step 3$"):
        trained(Failing(5, fail), tmp_path / "used")
    assert weights(trained(Brightness(), tmp_path / "used")) == weights(trained(Brightness(), tmp_path / "whole"))


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as raised:
        trained(Failing(5, raising(error)), tmp_path)
    assert raised.value is error


def test_one_of_several_learners_may_run_out_of_memory(tmp_path: Path) -> None:
    methods = {"large": Failing(2, ask_for_too_much), "small": Brightness()}
    learners = fit_together(methods, stripes(8)[0], TRAIN, seed=0, workdir=tmp_path, tracker=Recorder())
    assert isinstance(learners["large"].failure, OutOfMemory)
    assert learners["large"].failure.__traceback__ is None  # it would keep the step's tensors alive
    assert learners["small"].done == 10


def test_a_rank_that_runs_out_of_memory_ends_the_training_of_several_learners(tmp_path: Path) -> None:
    """The other rank cannot know of it: it would wait for ever."""
    ranks(2, _one_rank_runs_out, tmp_path)
    assert ": out of memory at step 2 with 4 images a step" in (tmp_path / "message1").read_text()
    assert (tmp_path / "message0").read_text().startswith("a device, or the connection to one, failed at step ")


def _one_rank_runs_out(folder: Path) -> None:
    fail = ask_for_too_much if distributed.rank() == 1 else int
    methods = {"large": Failing(2, fail), "small": Brightness()}
    try:
        fit_together(methods, stripes(8)[0], TRAIN, seed=0, workdir=folder, tracker=Recorder())
    except (TryAgain, DeviceLost) as error:
        (folder / f"message{distributed.rank()}").write_text(str(error))


@pytest.mark.parametrize(
    ("batch", "ranks", "asked", "total", "expected"),
    [
        (256, 1, 90.0, 80.0, 128),  # it failed at 90, and may have wanted more: half
        (256, 1, 640.0, 80.0, 32),  # one huge tensor: an eighth
        (250, 8, 90.0, 80.0, 120),
        (16, 8, 640.0, 80.0, 16),  # two images a rank are the least
    ],
)
def test_a_batch_that_may_fit_is_half_or_less_and_can_be_shared_out(batch: int, ranks: int, asked: float, total: float, expected: int) -> None:
    assert fitting(batch, ranks, asked, total) == expected


def test_what_is_set_already_is_not_advised() -> None:
    def advice(batch: int, ranks: int, **train: bool | int | str) -> str:
        return str(explained(MemoryError(), Train(**train), batch, ranks, 1, 0)).partition(": ")[2]  # type: ignore[arg-type]  # of several types

    assert "train.sharding to fsdp" in advice(64, 2)
    assert "train.sharding" not in advice(64, 2, sharding="fsdp")
    assert "activation_checkpointing" not in advice(64, 1, activation_checkpointing=True)
    assert "train.accumulate to 4" in advice(64, 1, accumulate=2)
    assert advice(2, 1, accumulate=2, activation_checkpointing=True) == "take a smaller encoder or a smaller image_size"
