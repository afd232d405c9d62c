"""Two Gloo processes, each with half of every batch, train exactly as one process with the whole: every method and distiller."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from few_steps import CPU, asked_for, few_steps
from small_methods import CASES, Case
from timm.layers.norm_act import BatchNormAct2d
from tiny_training import ranks
from torch import Tensor, nn

from schemas.spec import Spec
from ssl_tasks import distributed
from ssl_tasks.nn.batchnorm import GlobalBatchNorm, synchronised


def multi_crop(case: Case) -> Case | None:
    """The method with small crops too, and with what else starts or ends in the middle of a training; None where it takes no small crops."""
    middle = {"freeze_last_layer": 0.5, "momentum": 0.8}
    config: Spec = case.config
    if "views" not in type(config).model_fields:
        return None
    fields = {name: value for name, value in middle.items() if name in type(config).model_fields}
    views = case.config.views.model_copy(update={"local_count": 2, "local_size": 8}).model_dump(exclude_unset=True)
    try:
        return Case(type(config).model_validate({**config.model_dump(exclude_unset=True), **fields, "views": views}), case.encoder)
    except ValueError:
        return None


ALL = CASES | {f"{name} with small crops": crops for name, case in CASES.items() if (crops := multi_crop(case))}


def collectives(rank: int) -> dict[str, Any]:
    """What each collective gives on this rank."""
    own = torch.tensor([1.0 + rank, 10.0], requires_grad=True)
    gathered = distributed.gather(own)
    (gathered * torch.arange(4.0) * (rank + 1)).sum().backward()
    distributed.barrier()
    return {
        "gathered": gathered.detach(),
        "gradient": own.grad,
        "mean": distributed.mean(own.detach()),
        "broadcast": distributed.broadcast({"from": rank}),
        "who": (distributed.rank(), distributed.world_size(), distributed.is_main()),
    }


def work(folder: Path, names: list[str]) -> None:
    """What one of the two processes does, with the methods of some names."""
    found: dict[str, Any] = {"device": str(distributed.start()), "collectives": collectives(distributed.rank())}
    for name in names:
        try:
            found[name] = few_steps(ALL[name])
        except Exception:  # of one method; the others are compared all the same
            found[name] = traceback.format_exc()
    torch.save(found, folder / f"{distributed.rank()}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What each of the two processes came to, with the methods that are asked for."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks(2, work, folder, asked_for(request), seconds=900)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", ALL)
def test_two_processes_train_as_one(name: str, found: list[dict[str, Any]]) -> None:
    alone = few_steps(ALL[name])
    assert alone["gradients"]
    for rank in found:
        assert not isinstance(rank[name], str), rank[name]
        torch.testing.assert_close(rank[name], alone, rtol=1e-8, atol=1e-8)


def test_methods_with_small_crops_are_among_those_compared() -> None:
    assert {"dino-vit with small crops", "dino-convnet with small crops"} <= set(ALL)


def test_gathered_tensors_are_in_the_order_of_ranks_and_gradients_are_summed_over_them(found: list[dict[str, Any]]) -> None:
    for rank, saw in enumerate(process["collectives"] for process in found):
        assert saw["gathered"].tolist() == [1, 10, 2, 10]
        assert saw["gradient"].tolist() == [[0, 3], [6, 9]][rank]  # 0..3, once from the first rank and twice from the second
        assert saw["mean"].tolist() == [1.5, 10]
        assert saw["broadcast"] == {"from": 0}
        assert saw["who"] == (rank, 2, rank == 0)


def test_processes_without_cuda_train_on_the_cpu(found: list[dict[str, Any]]) -> None:
    assert [process["device"] for process in found] == ["cpu", "cpu"]


def test_a_single_process_needs_no_group() -> None:
    tensor = torch.ones(2, 3)
    assert distributed.gather(tensor) is tensor
    assert torch.equal(distributed.mean(tensor), tensor)
    assert distributed.broadcast("value") == "value"
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.barrier()
    distributed.stop()


@pytest.mark.parametrize(
    ("local", "shape"),
    [
        (lambda: nn.BatchNorm1d(5), (6, 5)),
        (lambda: nn.BatchNorm2d(5, momentum=None), (6, 5, 3, 3)),
        (lambda: nn.BatchNorm2d(5, affine=False), (6, 5, 3, 3)),
        (lambda: nn.BatchNorm2d(5, track_running_stats=False), (6, 5, 3, 3)),
        (lambda: BatchNormAct2d(5, act_layer=nn.ReLU), (6, 5, 3, 3)),
    ],
    ids=["1d", "cumulative", "without weights", "without running statistics", "with activation"],
)
def test_batch_norm_over_all_processes_is_the_ordinary_one_where_there_is_one(local: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    theirs, ours = local().double(), GlobalBatchNorm(local()).double()
    for training in (True, True, False):
        x = torch.randn(*shape, dtype=torch.float64)
        results: list[tuple[Tensor, Tensor]] = []
        for module in (theirs.train(training), ours.train(training)):
            own = x.clone().requires_grad_()
            y = module(own)
            (y**3).sum().backward()
            assert own.grad is not None
            results.append((y.detach(), own.grad))
        torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=1e-12, atol=1e-12)


def test_a_single_process_keeps_its_batch_norms() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert synchronised(module, CPU) is module
    assert isinstance(module[1], nn.BatchNorm1d)
