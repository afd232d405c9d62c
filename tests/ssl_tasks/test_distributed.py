"""Two Gloo processes, each with half of every batch, train exactly as one process with the whole."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from schemas import methods as configs
from schemas.distillers import Feature as FeatureConfig
from schemas.encoders import Encoder
from schemas.views import Views
from ssl_tasks import distributed
from ssl_tasks.distill.feature import Feature
from ssl_tasks.method import Method
from ssl_tasks.methods import build
from ssl_tasks.nn.batchnorm import GlobalBatchNorm, synchronised
from ssl_tasks.nn.encoder import TimmEncoder

BATCH, STEPS, TEACHER_DIM = 8, 3, 12
CONVNET = Encoder(
    name="resnetv2_18", image_size=16, channels=1, stem="half", options={"layers": [1, 1], "channels": [8, 16], "stem_chs": 8, "zero_init_last": False}
)
MULTI_CROP = Views(local_count=2, local_size=8)

METHODS: dict[str, Callable[[TimmEncoder], Method]] = {
    "simclr": lambda e: build(configs.SimCLR(hidden=16, output=8), e),
    "vicreg": lambda e: build(configs.VICReg(hidden=16, output=12), e),
    "dino": lambda e: build(configs.DINO(prototypes=10, hidden=16, bottleneck=8, momentum=0.8, freeze_last_layer=0.5, views=MULTI_CROP), e),
    "feature": lambda e: Feature(FeatureConfig(hidden=16), e, TEACHER_DIM),
}


def trained(make: Callable[[TimmEncoder], Method], share: slice) -> dict[str, Any]:
    """Losses, first gradients and final state of a few steps on a share of batches that are the same everywhere."""
    torch.manual_seed(0)
    method = synchronised(make(TimmEncoder(CONVNET)), torch.device("cpu")).double().train()
    assert isinstance(method, Method)
    model = DistributedDataParallel(method) if distributed.world_size() > 1 else method
    seen: Any = method.config.views
    sides = [16] * seen.count + [8] * seen.local_count
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    losses, gradients = [], {}
    for step in range(STEPS):
        views = [torch.randn(BATCH, 1, side, side, dtype=torch.float64) for side in sides]
        targets = torch.randn(len(views), BATCH, TEACHER_DIM, dtype=torch.float64)[:, share].flatten(0, 1)
        inputs = ([view[share] for view in views], *([targets] if isinstance(method, Feature) else []))
        terms = model(*inputs, step / STEPS)
        losses.append({name: float(distributed.mean(term.detach())) for name, term in terms.items()})
        optimizer.zero_grad()
        sum(terms.values()).backward()
        gradients = gradients or {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
        method.before_step(step / STEPS)
        optimizer.step()
        method.after_step(step / STEPS)
    return {"losses": losses, "gradients": gradients, "state": {name: value.clone() for name, value in method.state_dict().items()}}


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


def work(rank: int, port: int, folder: Path) -> None:
    """One of the two processes, as torchrun would start it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    device = distributed.start()
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    found = {"device": str(device), "collectives": collectives(rank), **{name: trained(make, half) for name, make in METHODS.items()}}
    distributed.stop()
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one(name: str, ranks: list[dict[str, Any]]) -> None:
    alone = trained(METHODS[name], slice(None))
    assert alone["gradients"]
    for rank in ranks:
        torch.testing.assert_close(rank[name], alone, rtol=1e-8, atol=1e-8)


def test_gathered_tensors_are_in_the_order_of_ranks_and_gradients_are_summed_over_them(ranks: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(r["collectives"] for r in ranks):
        assert found["gathered"].tolist() == [1, 10, 2, 10]
        assert found["gradient"].tolist() == [[0, 3], [6, 9]][rank]  # 0..3, once from the first rank and twice from the second
        assert found["mean"].tolist() == [1.5, 10]
        assert found["broadcast"] == {"from": 0}
        assert found["who"] == (rank, 2, rank == 0)


def test_processes_without_cuda_train_on_the_cpu(ranks: list[dict[str, Any]]) -> None:
    assert [rank["device"] for rank in ranks] == ["cpu", "cpu"]


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
    assert synchronised(module, torch.device("cpu")) is module
    assert isinstance(module[1], nn.BatchNorm1d)
