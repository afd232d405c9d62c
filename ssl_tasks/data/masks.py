"""Masks over a grid of patches, every sample with its own, all from a `Draw`. Shapes: B samples, N patches of a square grid.

Every mask has exactly as many patches as it is told to: a batch's masks are made in a fixed number of whole-batch operations.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ssl_tasks.data.draw import Draw

ASPECT = (0.3, 1 / 0.3)
"""Height over width of a block, uniform in its logarithm. BEiT, https://arxiv.org/abs/2106.08254, algorithm 1"""
SMALLEST = 4
"""Patches of a block, at least, unless fewer are left to mask. https://github.com/facebookresearch/dinov2 (`MaskingGenerator`)"""
BLOCKS = 20
"""Blocks that are tried a sample; what they leave is made up by single patches, as in DINOv3."""


def even_counts(draw: Draw, patches: int, probability: float, ratio: tuple[float, float]) -> Tensor:
    """How many patches of each sample are masked (B,): none of most, and of the rest a share that is spread evenly over `ratio`.

    Exactly `probability` of the whole batch's samples are masked, rounded, at least one; each has its own stratum of `ratio`.
    https://github.com/facebookresearch/dinov2/blob/main/dinov2/data/collate.py
    """
    masked = max(1, round(probability * draw.samples))
    place = draw.permutation()
    share = ratio[0] + (ratio[1] - ratio[0]) * (place + draw.uniform()) / masked
    return torch.where(place < masked, (share * patches).long().clamp(min=1), 0)


def random_masks(draw: Draw, grid: int, counts: Tensor) -> Tensor:
    """Masks (B, N) of single patches, true where masked.

    Args:
        grid: patches along a side.
        counts: patches to mask (B,).
    """
    return _first(draw.uniforms(grid * grid), counts)


def block_masks(draw: Draw, grid: int, counts: Tensor) -> Tensor:
    """Masks (B, N) of rectangles that may overlap, true where masked: BEiT's, topped up with single patches to the exact count.

    A block covers between `SMALLEST` and what is left to mask, at most half of the grid, and is left out where it would mask too many.

    Args:
        grid: patches along a side.
        counts: patches to mask (B,).
    """
    rows, columns = _places(grid, counts.device)
    masked = torch.zeros(len(counts), grid * grid, dtype=torch.bool, device=counts.device)
    for drawn in draw.uniforms(BLOCKS, 4).unbind(1):
        area, aspect, top, left = drawn.unbind(1)
        most = (counts - masked.sum(1)).clamp(max=grid * grid // 2)
        least = most.clamp(max=SMALLEST)
        height, width = _sides(least + area * (most - least), aspect, grid)
        joined = masked | (_stretch(rows, top, height, grid) & _stretch(columns, left, width, grid))
        masked = torch.where((joined.sum(1) <= counts)[:, None], joined, masked)
    return _first(draw.uniforms(grid * grid) - masked.float(), counts)


def inverse_block_masks(draw: Draw, grid: int, counts: Tensor) -> Tensor:
    """Masks (B, N), true where masked: all but one block, which may reach over an edge and come in again at the opposite one.

    CAPI's, https://arxiv.org/abs/2502.08769. The block's outermost patches are dropped at random to leave the exact count.

    Args:
        grid: patches along a side.
        counts: patches to mask (B,).
    """
    rows, columns = _places(grid, counts.device)
    area, aspect, top, left = grid * grid - counts, *draw.uniforms(3).unbind(1)
    height, width = _sides(area.float(), aspect, grid)
    y, x = (top * grid).floor()[:, None], (left * grid).floor()[:, None]
    down, across = ((rows - y) % grid) / height[:, None], ((columns - x) % grid) / width[:, None]
    return ~_first(torch.maximum(down, across) + 1e-3 * draw.uniforms(grid * grid), area)


MASKS: dict[str, Callable[[Draw, int, Tensor], Tensor]] = {"block": block_masks, "random": random_masks, "inverse_block": inverse_block_masks}
"""Masks by the name that a config gives them."""


def _places(grid: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column (N,) of every patch."""
    number = torch.arange(grid * grid, device=device)
    return number // grid, number % grid


def _sides(area: Tensor, aspect: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Height and width (B,) in whole patches of blocks of about `area`; `aspect` in [0, 1) is where between the extremes of `ASPECT`."""
    low, high = (math.log(bound) for bound in ASPECT)
    stretch = (low + aspect * (high - low)).exp()
    return (area * stretch).sqrt().round().clamp(1, grid), (area / stretch).sqrt().round().clamp(1, grid)


def _stretch(places: Tensor, start: Tensor, length: Tensor, grid: int) -> Tensor:
    """Which places (N,) lie in a stretch of `length` (B,); `start` in [0, 1) is where between the first and the last that fits."""
    first = (start * (grid - length + 1)).floor()[:, None]
    return (places >= first) & (places < first + length[:, None])


def _first(scores: Tensor, counts: Tensor) -> Tensor:
    """Which scores (B, N) are among the `counts` (B,) smallest of their row."""
    return scores.argsort(1).argsort(1) < counts[:, None]
