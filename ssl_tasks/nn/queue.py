"""Queue: the newest rows that every process has made, oldest out first."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssl_tasks.distributed import gather
from ssl_tasks.losses.precision import full_precision


class Queue(nn.Module):
    """A ring of rows without gradient, the same on every process and part of the state dict.

    Starts with random unit vectors, as MoCo's (https://github.com/facebookresearch/moco, `moco/builder.py`).

    Attributes:
        rows: (size, dim), in no order of age.
        pushed: how many rows have come in so far.
        pushes: in how many batches.
    """

    rows: Tensor
    pushed: Tensor
    pushes: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))
        self.register_buffer("pushes", torch.zeros((), dtype=torch.long))

    @property
    def is_full(self) -> bool:
        """Whether no random row is left; waits for the device."""
        return int(self.pushed) >= len(self.rows)

    @property
    def age(self) -> float:
        """How many pushes ago the oldest row came in, of those that did, for batches of one size; waits for the device."""
        pushed = int(self.pushed)
        return min(len(self.rows), pushed) * int(self.pushes) / max(pushed, 1)

    @torch.no_grad()
    @full_precision
    def nearest(self, anchors: Tensor, count: int = 1) -> Tensor:
        """The `count` rows (B, count, dim) whose products with each anchor (B, dim) are largest, the nearest first."""
        return self.rows[(anchors @ self.rows.T).topk(count, dim=1).indices]

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Put rows (B, dim) of every process in the place of the oldest ones; of more rows than there are places, the last."""
        size = len(self.rows)
        everyone = gather(rows.detach().to(self.rows.dtype))
        pushed = len(everyone)
        newest = everyone[-size:]
        places = (self.pushed + pushed - len(newest) + torch.arange(len(newest), device=self.rows.device)) % size
        self.rows[places] = newest
        self.pushed += pushed
        self.pushes += 1
