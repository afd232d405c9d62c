"""Several processes as one: who this one is, and collectives that carry gradients. Besides `sharding.py` the only file that imports
torch.distributed.

Every function works with a single process too, where it costs nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def start() -> torch.device:
    """Join the processes that torchrun started, and return the device of this one.

    Reads torchrun's environment variables; without them there is one process. The backend is NCCL on CUDA, Gloo elsewhere.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    return device


def stop() -> None:
    """Leave the other processes; nothing where `start` joined none."""
    if dist.is_initialized():
        dist.destroy_process_group()


class _Alone:
    """Whether this process works on its own for the moment; one for all threads, since gradients are computed in others."""

    now = False


@contextmanager
def on_its_own() -> Iterator[None]:
    """While it is open, every function here sees a group of this one process, which is its main one; nothing inside may wait for others."""
    before, _Alone.now = _Alone.now, True
    try:
        yield
    finally:
        _Alone.now = before


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() and not _Alone.now else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _Alone.now else 0


def is_main() -> bool:
    """Whether this is the process that writes files and talks to the tracker."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def broadcast(value: Any) -> Any:
    """The main process's value, anything that pickles, on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def each(value: Any) -> list[Any]:
    """Every process's value, anything that pickles, in the order of ranks, on every process."""
    values = [value] * world_size()
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def gather(tensor: Tensor) -> Tensor:
    """Every process's tensor, joined along the first dimension in the order of ranks; gradients flow back to each process.

    The tensors must have the same shape everywhere. The gradient of a loss that each process computes from the gathered batch is
    summed over processes, so that after averaging the parameters' gradients, as DistributedDataParallel does, the mean of the
    processes' losses has been differentiated. Without that sum it would be too small by the number of processes.
    """
    if world_size() == 1:
        return tensor
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


def mean(tensor: Tensor) -> Tensor:
    """Mean of every process's tensor, of the same shape everywhere; gradients flow back to each process."""
    return gather(tensor[None]).mean(dim=0)


def following(tensor: Tensor) -> Tensor:
    """Each row's next one in the batch of all processes, in the order of ranks; the first one for the last.

    The tensors must have the same shape everywhere. One row a process is exchanged.
    """
    firsts = gather(tensor[:1])
    after = (rank() + 1) % world_size()
    return torch.cat([tensor[1:], firsts[after : after + 1]])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        everyone = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(everyone, tensor.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed[rank() * ctx.rows : (rank() + 1) * ctx.rows]
