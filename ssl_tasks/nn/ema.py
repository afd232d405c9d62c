"""Teacher: a copy of a network that follows it as an exponential moving average."""

from copy import deepcopy
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class Teacher(nn.Module):
    """A network's moving average: never trained, always in eval mode.

    Parameters follow as an average. Buffers are copied: batch-norm statistics are short averages already, and an average of them
    would start from zero mean and unit variance and be wrong for the first hundreds of steps.

    Args:
        batch_statistics: whether batch norms normalise by the batch at hand instead, like a student's in training, and keep no running
            statistics. With running ones MoCo collapsed on digits, and BYOL learned nothing on CIFAR-10 (k-NN 29 after 375 steps, 34 with
            this, 31 untrained).
    """

    def __init__(self, student: nn.Module, batch_statistics: bool = False) -> None:
        super().__init__()
        self.network = deepcopy(student).requires_grad_(False)
        if batch_statistics:
            for norm in (m for m in self.network.modules() if isinstance(m, _BatchNorm)):
                norm.track_running_stats = False
                norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the method around it does.

        Batch norms without running statistics do the same in both modes, but PyTorch's ask other processes for theirs in train mode only.
        """
        super().train(False)
        for norm in (m for m in self.modules() if getattr(m, "running_mean", m) is None):
            norm.training = True
        return self

    @torch.no_grad()
    def forward(self, *args: Any) -> Any:
        """The network's output, without gradient."""
        return self.network(*args)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Move to momentum * teacher + (1 - momentum) * student."""
        mine, theirs = tuple(self.network.parameters()), tuple(student.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - momentum)  # on CUDA a few kernels, where one tensor at a time is hundreds
        source = dict(student.named_buffers())
        for name, copied in self.network.named_buffers():
            copied.copy_(source[name])
