"""Snapshot: a network as it was at some share of the training, still until the next one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_tasks.nn.ema import Teacher


class Snapshot(nn.Module):
    """A copy of a network that is renewed at given shares of the training.

    Args:
        shares: of the training, rising; where there is none, the copy stays what it is made of or what is loaded.

    Attributes:
        progress: of the newest step, so that a resumed training takes no snapshot twice and a further training its own.
    """

    progress: Tensor

    def __init__(self, network: nn.Module, shares: Sequence[float]) -> None:
        super().__init__()
        self.teacher, self.shares = Teacher(network), tuple(shares)
        self.register_buffer("progress", torch.tensor(-1.0, dtype=torch.float64))
        self._before: float | None = None
        self.register_load_state_dict_pre_hook(lambda module, *_: setattr(module, "_before", None))  # type: ignore[no-untyped-call]  # of torch

    def renew(self, network: nn.Module, progress: float) -> None:
        """Copy the network if this is the first step at or after one of the shares; a progress that falls back begins anew."""
        before = float(self.progress) if self._before is None else self._before  # read once: it waits for the device
        before = before if before <= progress else -1.0
        if any(before < share <= progress for share in self.shares):
            self.teacher.follow(network, 0.0)
        self._before = progress
        self.progress.fill_(progress)
