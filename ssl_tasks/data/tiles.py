"""Tiles of images: nine cells of a square crop, and in each a smaller tile, moved at random so that no edge goes on in the next one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from schemas.errors import UserError
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.geometry import resized

ACROSS = 3
CELLS = ACROSS**2


@dataclass(frozen=True)
class Tiles:
    """How crops are cut. All lengths are in pixels.

    Attributes:
        cell: side of a cell.
        side: of a tile.
        play: how far a tile may move in its cell, to either side together.
        shown: side that a tile is resized to; `side` where the encoder takes it as it is.
        margin: left of the first cell and above it.
    """

    cell: int
    side: int
    play: int
    shown: int
    margin: int

    @classmethod
    def of(cls, kind: str, size: int, shown: Callable[[int], int], gap: float, jitter: float | None = None) -> Self:
        """Those of a method's crops.

        Args:
            size: side of a crop.
            shown: at which side the encoder sees a tile of a given one, or 0 where it cannot.
            gap: between tiles that lie in the middle of their cells, over the side of a tile.
            jitter: how far a tile may move to either side, over its own, so that a gap is left; anywhere in its cell where not given.

        Raises:
            UserError: where crops are too small to be cut so.
        """
        cell = size // ACROSS
        largest = round(cell / (1 + gap))
        seen = shown(largest) if largest else 0
        side = min(largest, seen)
        room = cell - side
        play = room if jitter is None else max(1, round(2 * jitter * side))
        if side < 2 or play < 1 or play > room - (jitter is not None):
            raise UserError(
                f"{kind}: encoder.image_size {size} is too small for {ACROSS} x {ACROSS} tiles with gaps between them: make it larger, "
                "or take an encoder with smaller patches"
            )
        return cls(cell, side, play, seen, (size - ACROSS * cell) // 2)

    def corners(self, draw: Draw) -> Tensor:
        """Row and column (B, 9, 2) at which each tile begins, cell by cell."""
        moved = (draw.uniforms(CELLS, 2) * (self.play + 1)).long()
        cell = torch.arange(CELLS, device=moved.device)
        first = torch.stack([cell // ACROSS, cell % ACROSS], dim=1) * self.cell
        return first + self.margin + (self.cell - self.side - self.play) // 2 + moved

    def cut(self, crops: Tensor, corners: Tensor) -> Tensor:
        """Tiles (B, T, C, shown, shown) of crops (B, C, S, S) that begin at corners (B, T, 2)."""
        steps = torch.arange(self.side, device=crops.device)
        rows, columns = (corners[..., axis, None] + steps for axis in (0, 1))
        image = torch.arange(len(crops), device=crops.device).view(-1, 1, 1, 1)
        tiles = crops.permute(0, 2, 3, 1)[image, rows[..., :, None], columns[..., None, :]].permute(0, 1, 4, 2, 3)
        return resized(tiles.flatten(0, 1), self.shown).view(*tiles.shape[:3], self.shown, self.shown)


def standardised(tiles: Tensor) -> Tensor:
    """Tiles (B, T, C, s, s), each of whose channels is brought to mean 0 and standard deviation 1, so that they tell nothing of its place."""
    mean, spread = tiles.mean(dim=(-2, -1), keepdim=True), tiles.std(dim=(-2, -1), keepdim=True)
    return (tiles - mean) / (spread + 1e-3)
