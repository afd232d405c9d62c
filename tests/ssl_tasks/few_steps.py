"""A few steps of a method in float64 on batches that are the same everywhere: several processes are compared with one."""

from typing import Any

import pytest
import torch
from small_methods import BATCH, Case, inputs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssl_tasks import distributed, sharding
from ssl_tasks.data.draw import Draw
from ssl_tasks.method import Method
from ssl_tasks.nn.batchnorm import synchronised

STEPS = 3
CPU = torch.device("cpu")


def few_steps(case: Case, sharded: bool = False, memory: dict[str, Any] | None = None) -> dict[str, Any]:
    """Losses, the first step's gradients, and the final state of a method, trained on this process's share of each batch.

    Args:
        sharded: whether the processes hold parts of the method, or a copy each.
        memory: arguments of the encoder's `memory`.
    """
    method = case.make().double()
    channels = case.encoder.channels
    encoder: Any = next(part for part in method.modules() if part is not method and hasattr(part, "memory"))
    encoder.memory(**(memory or {}))
    synchronised(method, CPU)
    model: nn.Module = method
    if distributed.world_size() > 1:
        model = sharding.shard(method, CPU) if sharded else DistributedDataParallel(method, broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    losses, gradients = [], dict[str, Tensor]()
    for step in range(STEPS):
        progress = (step + 0.5) / STEPS
        terms = model(*_inputs(method, step, channels), progress)
        losses.append({name: float(distributed.mean(term.detach())) for name, term in terms.items()})
        optimizer.zero_grad()
        torch.autograd.backward(sum(terms.values()))
        norm = sharding.whole(nn.utils.clip_grad_norm_([p for p in method.parameters() if p.requires_grad], 10.0))
        gradients = gradients or {name: sharding.whole(p.grad).clone() for name, p in method.named_parameters() if p.grad is not None}
        method.before_step(progress)
        optimizer.step()
        method.after_step(progress)
    state = {name: sharding.whole(value).clone() for name, value in method.state_dict().items()}
    return {"losses": losses, "gradients": gradients, "state": state, "norm": norm}


def asked_for(request: pytest.FixtureRequest) -> list[str]:
    """The names that tests of this file are to be run with: all of them, or what a selection left."""
    here = [item for item in request.session.items if item.path == request.path]
    return [item.callspec.params["name"] for item in here if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "name" in item.callspec.params]


def _inputs(method: Method, step: int, channels: int) -> tuple[Any, ...]:
    """This process's views of a batch, and for a student what it learns from."""
    share = BATCH // distributed.world_size()
    own = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (BATCH, channels, 18, 18), dtype=torch.uint8, generator=generator)
    views: list[Tensor] = [view.double() if view.is_floating_point() else view for view in method.views(images[own], Draw(generator, BATCH, own))]
    return inputs(method, views, own, step)
