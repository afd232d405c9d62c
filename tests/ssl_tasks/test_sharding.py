"""A method in parts on two Gloo processes trains exactly as a whole one, and nobody who looks at it can tell."""

import traceback
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from few_steps import CPU, asked_for, few_steps
from small_methods import CASES
from tiny_training import DINO, SIMCLR, TRAIN, VIT, Recorder, make, ranks, stripes
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from schemas import methods as configs
from schemas.errors import UserError
from schemas.training import LARS, SGD, Train
from ssl_tasks import distributed, sharding
from ssl_tasks.method import Method
from ssl_tasks.monitors import Look
from ssl_tasks.train import fit

SGD_TRAIN = TRAIN.model_copy(update={"optimizer": SGD(learning_rate=0.005), "clip": 1.0})
"""Adam would blow up the rounding by which two ranks differ from one process, step by step."""
SAVING = {"pieces": 2, "checkpointing": True}


def work(folder: Path, names: list[str]) -> None:
    """What one of the two processes does, with the methods of some names."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = few_steps(CASES[name], sharded=True)
        except Exception:  # of one method; the others are compared all the same
            found[name] = traceback.format_exc()
    found["saving memory"] = few_steps(CASES["dino-vit"], sharded=True, memory=SAVING)
    found["parts"] = parts()
    found["carried"] = carried()
    torch.save(found, folder / f"{distributed.rank()}.pt")


def parts() -> dict[str, Any]:
    """How much of a method this process holds, before and after it is looked at."""
    method, images = make(DINO, VIT), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sizes, features = [sum(p.numel() for p in method.parameters())], [method.eval().exported()(images).detach()]
    model = sharding.shard(method, CPU)
    for _ in range(2):
        sizes.append(sum(p.to_local().numel() for p in method.parameters() if isinstance(p, DTensor)))
        features.append(model.look(lambda method: method.exported()(images)))
    return {"sizes": sizes, "features": features}


def carried() -> list[Tensor]:
    """Weights after two steps of Adam, and after a third one of this training and of one that got its gathered state."""
    torch.manual_seed(0)

    def new(seed: int) -> tuple[Method, sharding.Sharded, torch.optim.Optimizer]:
        method = CASES["simclr-vit"].make(seed).double()
        return method, sharding.shard(method, CPU), torch.optim.AdamW([p for p in method.parameters() if p.requires_grad])

    def step(model: sharding.Sharded, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(sum(model([torch.ones(4, 1, 16, 16).double(), torch.randn(4, 1, 16, 16).double()], 0.5).values()))
        optimizer.step()

    first, model, optimizer = new(seed=0)
    step(model, optimizer)
    state = deepcopy(distributed.broadcast([sharding.gathered(part.state_dict()) for part in (first, optimizer)]))
    second, copy, resumed = new(seed=1)
    sharding.load(second, resumed, *state)
    results = []
    for trained, trained_by in ((model, optimizer), (copy, resumed)):
        torch.manual_seed(1)
        step(trained, trained_by)
        results.append(torch.cat([sharding.whole(p.detach()).flatten() for p in trained.method.parameters()]))
    return results


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What each of the two processes came to."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks(2, work, folder, asked_for(request), seconds=900)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_with_parts_of_a_method_train_as_one_with_the_whole(name: str, found: list[dict[str, Any]]) -> None:
    alone = few_steps(CASES[name])
    for rank in found:
        assert not isinstance(rank[name], str), rank[name]
        torch.testing.assert_close(rank[name], alone, rtol=1e-8, atol=1e-8)


def test_memory_may_be_saved_on_top(found: list[dict[str, Any]]) -> None:
    """A batch in pieces and blocks that are computed twice: the same numbers."""
    for rank in found:
        torch.testing.assert_close(rank["saving memory"], few_steps(CASES["dino-vit"]), rtol=1e-8, atol=1e-8)


def test_each_process_holds_a_part_and_sees_the_whole(found: list[dict[str, Any]]) -> None:
    first, second = (rank["parts"] for rank in found)
    numbers = first["sizes"][0]
    assert max(first["sizes"][1:] + second["sizes"][1:]) < 0.6 * numbers
    assert [mine + theirs for mine, theirs in zip(first["sizes"][1:], second["sizes"][1:], strict=True)] == [numbers, numbers]
    for rank in (first, second):
        whole, *seen = rank["features"]
        for features in seen:
            torch.testing.assert_close(features, whole)


def test_a_gathered_state_is_all_that_a_resume_needs(found: list[dict[str, Any]]) -> None:
    for rank in found:
        going_on, resumed = rank["carried"]
        assert torch.equal(going_on, resumed)


def _fit(config: configs.Method, settings: Train, folder: Path, stop: int, result: str) -> None:
    """Train with monitors, to a failure at a step or to the end, where the main process keeps the weights."""

    class Failing(Recorder):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            if step == stop and "train/loss" in values:
                raise ZeroDivisionError

    images, labels = stripes()
    folder.mkdir(exist_ok=True)
    try:
        look = Look(images, labels, 0, CPU)
        learner = fit(make(config, VIT), images, settings, seed=3, workdir=folder / "work", tracker=Failing(), look=look)
    except ZeroDivisionError:
        return
    if distributed.is_main():
        assert not any(isinstance(p, DTensor) for p in learner.method.parameters())
        torch.save({"state": learner.method.state_dict(), "looks": learner.looks, "steps": len(learner.optimizer.state)}, folder / result)


def _run(count: int, sharding: str, config: configs.Method, settings: Train, folder: Path, stop: int = 0, result: str = "result") -> None:
    ranks(count, _fit, config, settings.model_copy(update={"sharding": sharding}), folder, stop, result)


@pytest.mark.parametrize(
    ("before", "after"),
    [((2, "fsdp"), (1, "ddp")), ((1, "ddp"), (2, "fsdp")), ((2, "fsdp"), (2, "ddp")), ((2, "ddp"), (1, "ddp")), ((1, "ddp"), (2, "ddp"))],
    ids=lambda place: f"{place[0]} {place[1]}",
)
def test_a_training_goes_on_with_another_number_of_processes_sharded_or_not(tmp_path: Path, before: tuple[int, str], after: tuple[int, str]) -> None:
    _run(1, "ddp", DINO, SGD_TRAIN, tmp_path / "alone")
    _run(*before, DINO, SGD_TRAIN, tmp_path, stop=12)
    assert [path.name for path in sorted((tmp_path / "work/checkpoints/model").glob("*.pt"))] == ["step-000000005.pt", "step-000000010.pt"]
    _run(*after, DINO, SGD_TRAIN, tmp_path)
    _compare(tmp_path)


def test_layer_wise_rates_clipping_and_lars_work_in_parts(tmp_path: Path) -> None:
    """Over a whole training with its monitors, whose numbers are compared too."""
    settings = SGD_TRAIN.model_copy(update={"optimizer": LARS(learning_rate=0.5, trust=0.01, bias_rate=0.01), "layer_decay": 0.8, "patch_embed_rate": 0.2})
    _run(1, "ddp", SIMCLR, settings, tmp_path / "alone")
    _run(2, "fsdp", SIMCLR, settings, tmp_path)
    _compare(tmp_path)


def _compare(folder: Path) -> None:
    alone, together = (torch.load(path / "result", weights_only=True) for path in (folder / "alone", folder))
    torch.testing.assert_close(together["state"], alone["state"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together["looks"], alone["looks"], rtol=1e-2, atol=1e-3)
    assert together["steps"] == alone["steps"] > 0


def test_a_method_with_a_parameter_that_is_a_single_number_is_refused() -> None:
    method = make(SIMCLR)
    method.bias = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UserError, match=r"train\.sharding fsdp cannot part 'bias', which is a single number: set train\.sharding to ddp"):
        sharding.shard(method, CPU)


def test_a_hull_takes_no_memory_until_it_is_filled() -> None:
    method = make(DINO, VIT)
    hull = sharding.hull(method)
    assert all(p.is_meta for p in hull.parameters())
    filled = sharding.filled(hull, method)
    torch.testing.assert_close(filled.state_dict(), method.state_dict(), rtol=0, atol=0)
    assert [p.requires_grad for p in filled.parameters()] == [p.requires_grad for p in method.parameters()]
