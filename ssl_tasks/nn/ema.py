"""Teacher: a copy of a network that follows it as an exponential moving average."""

from copy import deepcopy
from typing import Any, Self

import torch
from torch import nn


class Teacher(nn.Module):
    """A network's moving average: never trained, always in eval mode.

    Parameters follow as an average. Buffers are copied: batch-norm statistics are short averages already, and an average of them
    would start from zero mean and unit variance and be wrong for the first hundreds of steps.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(student).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the method around it does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, *args: Any) -> Any:
        """The network's output, without gradient."""
        return self.network(*args)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Move to momentum * teacher + (1 - momentum) * student."""
        for mine, theirs in zip(self.network.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs, 1 - momentum)
        for copied, source in zip(self.network.buffers(), student.buffers(), strict=True):
            copied.copy_(source)
