"""Two Gloo processes fine-tune as one, whatever the strategy; also where layers join the training in its middle."""

import os
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned import CASES, DEEP, STRATEGIES, TRAIN, classification, config, random_checkpoint, tune
from test_distill import job, workspace
from tiny_training import CONV, Recorder, ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import ssl_tasks
from schemas.stages import Finetune
from ssl_tasks import distributed, sharding
from ssl_tasks.finetune import finetune
from ssl_tasks.nn.batchnorm import synchronised

__all__ = ["workspace"]
BATCH, STEPS = 8, 8
CPU = torch.device("cpu")
STAGES: dict[str, tuple[Finetune, Any]] = {name: (config(strategy), encoder) for name, (strategy, encoder) in CASES.items()}
STAGES["trained batch norms"] = (config(STRATEGIES["full"], batch_norm="trained"), CONV)
STAGES["trained batch norms, late"] = (config(STRATEGIES["lp_ft"], batch_norm="trained"), CONV)
SHARDED = ("linear-vit", "full-vit", "lora-vit")


def few_steps(name: str, sharded: bool = False) -> dict[str, Any]:
    """Losses and final state in float64, trained on this process's share of each batch."""
    method = classification(*STAGES[name]).double()
    synchronised(method, CPU)
    model: nn.Module = method
    if distributed.world_size() > 1:
        parted = sharding.shard(method, CPU) if sharded else None
        model = parted or DistributedDataParallel(method, broadcast_buffers=False, find_unused_parameters=method.skips_parameters)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    share = BATCH // distributed.world_size()
    own = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
    losses = []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(BATCH, 1, 8, 8, dtype=torch.float64, generator=generator)[own]
        terms = model([images], (torch.arange(BATCH) % 4)[own], step / STEPS)
        losses.append({name: float(distributed.mean(term.detach())) for name, term in terms.items()})
        optimizer.zero_grad()
        torch.autograd.backward(sum(terms.values()))
        optimizer.step()
    return {"losses": losses, "state": {name: sharding.whole(value).clone() for name, value in method.state_dict().items()}}


def work(folder: Path) -> None:
    found: dict[str, Any] = {}
    for name, sharded in [(name, False) for name in STAGES] + [(name, True) for name in SHARDED]:
        try:
            found[f"{name}, sharded" if sharded else name] = few_steps(name, sharded)
        except Exception:
            found[f"{name}, sharded" if sharded else name] = traceback.format_exc()
    torch.save(found, folder / f"{distributed.rank()}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes came to."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks(2, work, folder, seconds=300)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", [*STAGES, *(f"{name}, sharded" for name in SHARDED)])
def test_two_processes_train_as_one(name: str, found: list[dict[str, Any]]) -> None:
    alone = few_steps(name.removesuffix(", sharded"))
    for rank in found:
        assert not isinstance(rank[name], str), rank[name]
        torch.testing.assert_close(rank[name], alone, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("strategy", "sharding"), [("unfreezing", "ddp"), pytest.param("lora", "fsdp", marks=pytest.mark.slow)])
def test_two_ranks_seal_one_classifier(workspace: Path, strategy: str, sharding: str) -> None:
    before = random_checkpoint(workspace, DEEP)
    stage = config(STRATEGIES[strategy], train=TRAIN.model_copy(update={"sharding": sharding}))
    ranks(2, _tune_as_rank, workspace, stage)
    together, alone = ssl_tasks.load(workspace / ".sslflow/artifacts/together"), ssl_tasks.load(tune(workspace, stage, "alone").folder)
    images = [workspace / f"images/{i}.png" for i in range(70, 76)]
    torch.testing.assert_close(together.embed(images), alone.embed(images), rtol=0.02, atol=0.02)
    assert together.encoder.state_dict().keys() == before.state_dict().keys(), "LoRA's products are merged here too"


def _tune_as_rank(workspace: Path, stage: Finetune) -> None:
    made = finetune(job(workspace, "together", stage, {"data": "data", "start": "start"}, {"": "together"}), Recorder())
    assert list(made) == ([""] if os.environ["RANK"] == "0" else [])
