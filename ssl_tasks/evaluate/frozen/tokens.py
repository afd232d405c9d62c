"""What linear probes read: CLS tokens of the last blocks and the mean patch token of the last, of every image, made in one pass and kept on disk."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.blocks import last_blocks

_ROOM = 2_000_000_000
"""Bytes of features that are held on the device at once; more are read from disk, a batch at a time."""


@dataclass(frozen=True)
class Tokens:
    """Features of every row of the table.

    Attributes:
        rows: (N, (blocks + 1) * width): the CLS token of the last block, of the one before it and so on, then the mean patch token of the last
            block; of a network without blocks its pooled feature alone, (N, width).
        blocks: how many last blocks they are of.
        patches: whether the mean patch token is among them.
    """

    rows: Floats
    width: int
    blocks: int
    patches: bool

    def columns(self, blocks: int, average: bool) -> slice | Ints:
        """Which columns are the CLS tokens of the last `blocks`, and with `average` the mean patch token."""
        end = blocks * self.width
        return slice(0, end) if not average else np.r_[0:end, self.blocks * self.width : (self.blocks + 1) * self.width]


def tokens(subject: Subject, blocks: int) -> Tokens:
    """Of the last `blocks` of a plain ViT, or of as many as it has; of another network, such as a ConvNet, its pooled feature, that of the last stage.

    A ViT without CLS token gives each block's mean patch token in its place.
    """
    encoder = subject.encoder
    if not encoder.is_vit:
        return Tokens(subject.features, subject.dim, 1, False)
    blocks = min(blocks, len(encoder.backbone.blocks))

    @torch.inference_mode()
    def make(rows: NDArray[np.float32]) -> None:
        start = 0
        for batch in subject.batches(np.arange(len(rows))):
            rows[start : start + len(batch)] = _read(last_blocks(encoder, subject.prepare(batch), blocks), encoder.prefix_tokens).float().cpu().numpy()
            start += len(batch)

    kept = subject.kept(f"CLS tokens of the last {blocks} blocks, mean patch token", (blocks + 1) * encoder.width, make)
    return Tokens(kept, encoder.width, blocks, True)


def _read(found: list[Tensor], prefix: int) -> Tensor:
    """One row an image, as `Tokens.rows`, of the tokens (B, P + N, W) after each block."""
    firsts = [each[:, 0] if prefix else each.mean(1) for each in found]
    return torch.cat([*firsts, found[0][:, prefix:].mean(1)], dim=1)


class Reader:
    """Rows of features on the device: all of them at once where there is room, else a batch at a time.

    Args:
        features: (N, D), such as memory-mapped.
        rows: which of them are read, by their positions here.
    """

    def __init__(self, features: Floats, rows: Ints, device: str, dtype: torch.dtype = torch.float32) -> None:
        self._features, self._rows, self._device, self._dtype = features, rows, device, dtype
        whole = len(rows) * features.shape[1] * 4 <= _ROOM
        self._held = self._tensor(features[rows]) if whole else None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, positions: Ints) -> Tensor:
        if self._held is not None:
            return self._held[torch.from_numpy(positions).to(self._device)]
        return self._tensor(self._features[self._rows[positions]])

    def _tensor(self, rows: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self._device, self._dtype)


def batches(count: int, size: int, steps: int, seed: int) -> list[Ints]:
    """Positions of the features of each step: every pass over them in another order, all of one size."""
    generator, size = np.random.default_rng(seed), min(size, count)
    passes = -(-steps * size // count)
    order = np.concatenate([generator.permutation(count) for _ in range(passes)])
    return [np.sort(order[i * size : (i + 1) * size]) for i in range(steps)]
