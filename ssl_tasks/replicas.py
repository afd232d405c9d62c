"""Replicas: a method on the device of every rank, each for its share of the batch."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from schemas.training import Train
from ssl_tasks import distributed, sharding
from ssl_tasks.method import Method
from ssl_tasks.nn.batchnorm import synchronised


def across_ranks(method: Method, config: Train, device: torch.device) -> tuple[nn.Module, Method | None]:
    """The method on its device, or with several ranks its twin whose batch norms see the whole batch and whose gradients are averaged.

    Returns:
        What a step calls; and the method's hull, for `sharding.filled`, where the ranks hold parts of it.
    """
    if distributed.world_size() > 1 and config.sharding == "fsdp":
        hull = sharding.hull(method)
        synchronised(method, device)
        return sharding.shard(method, device, bfloat16=device.type == "cuda" and config.bfloat16), hull
    method.to(device)
    if distributed.world_size() == 1:
        return method, None
    twin = synchronised(method, device)
    return DistributedDataParallel(twin, broadcast_buffers=False, find_unused_parameters=method.skips_parameters), None
