"""Snapshot: a network as it was at some share of the training, still until the next one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_tasks.nn.ema import Teacher


class Snapshot(nn.Module):
    """A copy of a network that is renewed at given shares of the training.

    Args:
        shares: of the training, rising; where there is none, the copy stays the one that is loaded.

    Attributes:
        progress: of the newest step, so that a resumed training takes no snapshot twice, and one that continues another takes its own.
        taken: whether it is a copy of something trained.
    """

    progress: Tensor
    taken: Tensor

    def __init__(self, network: nn.Module, shares: Sequence[float]) -> None:
        super().__init__()
        self.teacher, self.shares = Teacher(network), tuple(shares)
        self.register_buffer("progress", torch.tensor(-1.0, dtype=torch.float64))
        self.register_buffer("taken", torch.tensor(False))
        self._known: tuple[float, bool] | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]  # of torch

    def renew(self, network: nn.Module, progress: float, needed: bool) -> None:
        """After a step: copy the network if it was the first at or after one of the shares, or if a copy is needed and none was taken yet.

        A progress that falls back is that of another training, which begins anew.
        """
        before, taken = self._read()
        due = any((before if before <= progress else -1.0) < share <= progress for share in self.shares)
        if due or (needed and not taken):
            self.teacher.follow(network, 0.0)
            taken = True
        self._known = progress, taken
        self.progress.fill_(progress)
        self.taken.fill_(taken)

    def newest(self, network: nn.Module) -> nn.Module:
        """The copy, or as long as none was taken the network itself, which the next step copies if it is needed."""
        return self.teacher.network if self._read()[1] else network

    def _read(self) -> tuple[float, bool]:
        """Progress, and whether a copy was taken; read once, since that waits for the device."""
        self._known = self._known or (float(self.progress), bool(self.taken))
        return self._known


def _forget(snapshot: nn.Module, _: object) -> None:
    """What is known of the buffers is no longer so once they are loaded."""
    vars(snapshot)["_known"] = None
