"""Batch norm over the batch of all processes: PyTorch's own on CUDA, which refuses CPU tensors, and ours on a CPU."""

from collections.abc import Callable

import torch
from timm.layers import norm_act
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_tasks.distributed import mean, world_size


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with every batch norm in it replaced by one that sees all processes' samples; state dicts stay as they are.

    Call it before parameters are handed to an optimizer or to DistributedDataParallel; `device` is the one that the module will train on.
    A single process gets its module back untouched. Networks that are never in train mode may be converted too.
    """
    if world_size() == 1:
        return module
    if device.type == "cuda":
        convert: Callable[[nn.Module], nn.Module] = norm_act.convert_sync_batchnorm
        return convert(module)
    return _replaced(module)


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return GlobalBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


class GlobalBatchNorm(nn.Module):
    """Batch norm with the mean and variance of all processes' samples, around the parameters and buffers of the one it replaces.

    Every process must hold as many samples as the others. What timm's batch norms do after normalising is kept.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, local: _BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum = local.eps, local.momentum
        self.weight, self.bias = local.weight, local.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(local, name))
        self.drop, self.act = getattr(local, "drop", nn.Identity()), getattr(local, "act", nn.Identity())
        self.train(local.training)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.running_mean is None:
            y = self._by_batch(x)
        else:
            y = batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps)
        activated: Tensor = self.act(self.drop(y))
        return activated

    def _by_batch(self, x: Tensor) -> Tensor:
        """Two passes, mean and then variance: the mean of squares less the square of the mean would lose digits."""
        places, broadcast = [0, *range(2, x.ndim)], (-1, *[1] * (x.ndim - 2))
        batch_mean = mean(x.mean(places))
        centred = x - batch_mean.view(broadcast)
        batch_var = mean(centred.square().mean(places))
        self._track(batch_mean.detach(), batch_var.detach(), x.numel() // x.shape[1] * world_size())
        y = centred * torch.rsqrt(batch_var + self.eps).view(broadcast)
        if self.weight is None:
            return y
        return y * self.weight.view(broadcast) + self.bias.view(broadcast)

    def _track(self, batch_mean: Tensor, batch_var: Tensor, samples: int) -> None:
        """Move the running statistics, the variance without bias, as torch.nn.BatchNorm2d."""
        if not self.training or self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(batch_mean, share)
        self.running_var.lerp_(batch_var * samples / (samples - 1), share)
