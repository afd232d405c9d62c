"""DVAE: a discrete VAE, the network of a tokenizer. Its encoder tells an image in words of a vocabulary, one a patch; its decoder draws it from them.

Zero-Shot Text-to-Image Generation, Ramesh et al., 2021, https://arxiv.org/abs/2102.12092, appendix A.1. Shapes: B images, N words of a
square grid row by row, K words in the vocabulary.

Differs from the paper:
- Poolings and spreadings follow the prime factors of the patch's side, so that any patch is possible: 16 is 2 x 2 x 2 x 2, 14 is 2 x 7.
- Blocks are narrower and have three convolutions in the branch where the paper's have four; weights start as PyTorch starts them.
"""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from schemas.dvae import DVAE as DVAEConfig

_SHAPE = tuple(DVAEConfig.model_fields)


class Block(nn.Module):
    """x + g f(x), f three convolutions through a quarter of the width. A small g, fixed, lets a deep network start calmly."""

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        inner = max(1, width // 4)
        self.gain = gain
        self.branch = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.branch(x)
        return x + self.gain * added


class DVAE(nn.Module):
    """Encoder and decoder; images are normalised as views are.

    Attributes:
        config: what it was made from.
        shape: the same as numbers, part of the state dict, so that a network can be made to fit one.
    """

    shape: Tensor

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        factors = _primes(config.patch_size)
        widths = [config.width * 2**i for i in range(len(factors) + 1)]
        gain = 1 / (config.depth * len(widths)) ** 2
        encoder: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 7, padding=3)]
        decoder: list[nn.Module] = [nn.Conv2d(config.dim, widths[-1], 1)]
        for factor, width, wider in zip(factors, widths[:-1], widths[1:], strict=True):
            encoder += [*_blocks(width, config.depth, gain), nn.MaxPool2d(factor), nn.Conv2d(width, wider, 1)]
        for factor, width, wider in reversed(list(zip(factors, widths[:-1], widths[1:], strict=True))):
            decoder += [*_blocks(wider, config.depth, gain), nn.Upsample(scale_factor=factor), nn.Conv2d(wider, width, 1)]
        self.encoder = nn.Sequential(*encoder, *_blocks(widths[-1], config.depth, gain), nn.ReLU())
        self.told = nn.Conv2d(widths[-1], config.vocabulary, 1)
        self.read = nn.Linear(config.vocabulary, config.dim, bias=False)
        self.decoder = nn.Sequential(*decoder, *_blocks(widths[0], config.depth, gain), nn.ReLU(), nn.Conv2d(widths[0], 2 * config.channels, 1))
        self.register_buffer("shape", torch.tensor([getattr(config, name) for name in _SHAPE]))

    @classmethod
    def fitting(cls, state: Mapping[str, Tensor], prefix: str = "") -> Self:
        """A network with random weights of the shape of one whose state dict, under a prefix, is `state`."""
        return cls(DVAEConfig(**dict(zip(_SHAPE, state[f"{prefix}shape"].tolist(), strict=True))))

    def logits(self, images: Tensor) -> Tensor:
        """How much each word speaks for each place, (B, N, K)."""
        spoken: Tensor = self.told(self.encoder(images))
        return spoken.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def words(self, images: Tensor) -> Tensor:
        """The number of the word that tells each place best, (B, N); the same whatever precision the caller computes in."""
        with torch.autocast(images.device.type, enabled=False):
            return self.logits(images).argmax(dim=-1)

    def drawn(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Median and log scale of each pixel's logit, both (B, C, S, S), from words (B, N) or from mixtures of words (B, N, K)."""
        mixed = words if words.is_floating_point() else one_hot(words, self.config.vocabulary).to(self.read.weight.dtype)
        read: Tensor = self.read(mixed).transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))
        median, log_scale = self.decoder(read).chunk(2, dim=1)
        return median, log_scale

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, width of the last block) that words are told by, averaged over places: what monitors look at."""
        features: Tensor = self.encoder(images)
        return features.mean(dim=(2, 3))


def _blocks(width: int, depth: int, gain: float) -> list[nn.Module]:
    return [Block(width, gain) for _ in range(depth)]


def _primes(number: int) -> list[int]:
    """Prime factors in rising order."""
    factor = next((n for n in range(2, number + 1) if number % n == 0), 1)
    return [factor, *_primes(number // factor)] if factor > 1 else []
