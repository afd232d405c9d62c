"""Rounds: when all images of a data set were seen once more."""

import torch
from torch import Tensor, nn

from ssl_tasks.distributed import world_size


class Rounds(nn.Module):
    """Counts the images that a method was trained on; a round is over when they are as many as there are. Part of the state dict.

    An image that an epoch leaves out, as its last batch would not be whole, may be missing in a round.

    Attributes:
        done: rounds that are over, ().
    """

    seen: Tensor
    done: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        self.of = images
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def count(self, images: int) -> None:
        """This process, and every other one, was trained on so many images."""
        self.seen += images * world_size()

    def ended(self) -> bool:
        """Whether a round is over since the last call; waits for the device."""
        over = int(self.seen) >= self.of
        if over:
            self.seen.zero_()
            self.done += 1
        return over


def balanced(heads: int, images: int, labels: int) -> Tensor:
    """Random labels (heads, images), each used alike."""
    return torch.stack([torch.randperm(images) % labels for _ in range(heads)])
