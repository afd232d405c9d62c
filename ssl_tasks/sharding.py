"""Sharding: a method whose parameters, gradients and optimizer state lie in parts on several devices, for encoders that do not fit on one.

PyTorch's FSDP2 (`torch.distributed.fsdp.fully_shard`; https://arxiv.org/abs/2304.11277). The blocks of every encoder, teachers' too,
are whole only while they run; what is left of the method is whole while a step runs. Buffers are everywhere. A checkpoint holds whole
tensors, so that any number of processes may go on from it, sharded or not. A forward must not write into parameters: it would write
into something that is whole for a while.
"""

import re
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm

from schemas.errors import UserError
from ssl_tasks.distributed import is_main, world_size
from ssl_tasks.method import Method
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.packed import is_known, run_block

T = TypeVar("T")


class Sharded(nn.Module):
    """A method in parts. It is whole only inside a call of this module, to which `act` is what is done with it."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, *inputs: Any, act: Callable[..., Any] = Method.__call__) -> Any:
        return act(self.method, *inputs)

    @torch.no_grad()
    def look(self, look: Callable[[Method], T]) -> T:
        """What a function sees of the whole method, without gradient; all processes must look."""
        seen: T = self(act=look)
        cast(FSDPModule, self).reshard()
        return seen


def shard(method: Method, device: torch.device, bfloat16: bool = False) -> Sharded:
    """Spread a method over all processes' devices, in place. Call it before parameters are handed to an optimizer.

    Args:
        method: may lie on the CPU: it is moved block by block.
        bfloat16: whether blocks are sent around, and so computed, in bfloat16; what is kept and updated stays float32. Blocks with batch
            norm are left as they are.

    Raises:
        UserError: where the method has a parameter that cannot be parted.
    """
    for name, parameter in method.named_parameters():
        if parameter.ndim == 0:
            raise UserError(f"train.sharding fsdp cannot part '{name}', which is a single number: set train.sharding to ddp")
    mesh = init_device_mesh(device.type, (world_size(),))
    halved = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in _blocks(method):
        normed = any(isinstance(part, _BatchNorm) for part in block.modules())
        fully_shard(block, mesh=mesh, mp_policy=halved if bfloat16 and not normed else MixedPrecisionPolicy())
        if is_known(block):
            cast(Any, block).packed = partial(run_block, block)
            register_fsdp_forward_method(block, "packed")
    sharded = Sharded(method)
    fully_shard(sharded, mesh=mesh)
    return sharded


def hull(method: Method) -> Method:
    """A copy of a method whose parameters take no memory, to be filled by `filled`. Make it before the method is sharded."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in method.parameters()}
    return deepcopy(method, cast(dict[int, Any], empty))


def filled(hull: Method, method: Method) -> Method:
    """The hull with what the sharded method learned, on the CPU of the main process; on others, the method as it is."""
    state = gathered(method.state_dict())
    if not is_main():
        return method
    hull.load_state_dict(state, assign=True)
    return hull.train(method.training)


def whole(tensor: Tensor) -> Tensor:
    """The tensor of which each process may hold a part; all must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(state: Any) -> Any:
    """A state dict with whole tensors: on the CPU of the main process; others get nothing for what was parted, but all must ask."""
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    if not isinstance(state, DTensor):
        return state
    full = state.full_tensor()
    return full.cpu() if is_main() else None


def load(module: nn.Module, optimizer: torch.optim.Optimizer, module_state: dict[str, Tensor], optimizer_state: dict[str, Any]) -> None:
    """Load state dicts of whole tensors, each process its parts."""
    module.load_state_dict({name: _parted(value, like) for (name, value), like in zip(module_state.items(), module.state_dict().values(), strict=True)})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parted = {i: {key: _parted(value, parameters[i]) for key, value in state.items()} for i, state in optimizer_state["state"].items()}
    optimizer.load_state_dict({**optimizer_state, "state": parted})


def _parted(value: Any, like: Tensor) -> Any:
    """This process's part of a tensor, where `like` is parted and of the same shape."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _blocks(method: Method) -> list[nn.Module]:
    """The blocks of every encoder in a method, inner ones first: children of timm's `blocks`, of a ResNet's `layer1` and so on."""
    encoders = [module for module in method.modules() if isinstance(module, TimmEncoder)]
    parts = [part for encoder in encoders for part in encoder.backbone.named_modules()]
    return [block for name, part in reversed(parts) if re.search(r"(^|\.)(blocks|layer\d)$", name) for block in part.children()]
