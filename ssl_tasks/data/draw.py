"""Draw: random numbers of a batch, one row a sample, the same however many processes share the batch."""

import torch
from torch import Tensor


class Draw:
    """Random numbers, a row a sample, all from one generator.

    Every process draws those of the whole batch, which is cheap, and keeps its own rows: so several processes see what one would.

    Attributes:
        samples: images of the whole batch, over all processes.
        own: which of them are this process's.
        rows: which images of the data set this process's samples are, (B,); their places in the batch where nobody says.
    """

    def __init__(self, generator: torch.Generator, samples: int, own: slice = slice(None), rows: Tensor | None = None) -> None:
        self.generator, self.samples, self.own = generator, samples, own
        self.rows = torch.arange(samples, device=generator.device)[own] if rows is None else rows

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """Numbers (B,) between `low` and `high`, B of this process's samples."""
        return low + (high - low) * self.uniforms()

    def uniforms(self, *shape: int) -> Tensor:
        """Numbers (B, *shape) in [0, 1)."""
        return torch.rand(self.samples, *shape, generator=self.generator, device=self.generator.device)[self.own]

    def normals(self, *shape: int) -> Tensor:
        """Standard normal numbers (B, *shape)."""
        return torch.randn(self.samples, *shape, generator=self.generator, device=self.generator.device)[self.own]

    def chance(self, probability: float) -> Tensor:
        """Booleans (B,), true with `probability`."""
        return self.uniforms() < probability

    def others(self, count: int, images: int) -> Tensor:
        """Which images of the data set stand against each sample's, (B, K): any but its own, drawn evenly, with replacement.

        Args:
            count: K, where there are as many others; else it is the number of others.
            images: how many the data set has.
        """
        drawn = (self.uniforms(min(count, images - 1)).double() * (images - 1)).long()
        return drawn + (drawn >= self.rows[:, None])

    def permutation(self) -> Tensor:
        """A random rank (B,) of each sample among those of the whole batch, from 0."""
        return torch.randperm(self.samples, generator=self.generator, device=self.generator.device)[self.own]

    def order(self, count: int) -> list[int]:
        """The numbers below `count` in a random order, one for the whole batch."""
        return torch.rand(count, generator=self.generator, device=self.generator.device).argsort().tolist()
