"""Cells: square parts of an image that are masked whole, of one or several patches. Shapes: B images, N cells of a square grid."""

import math

from torch import Tensor

from schemas.errors import UserError


def check_cells(kind: str, image_size: int, side: int, what: str) -> None:
    """Whether an image can be cut in whole cells, at least two along a side. `what` is what has that side.

    Raises:
        UserError: where it cannot.
    """
    if image_size % side or image_size < 2 * side:
        near = max(2, round(image_size / side)) * side
        raise UserError(
            f"{kind}: encoder.image_size {image_size} cannot be cut in two or more parts of {side} px along a side, {what}: "
            f"set it to a multiple, such as {near}, or take an encoder of smaller patches"
        )


def cell_side(image_size: int, stride: int) -> int:
    """The side of a cell, in pixels: of whole strides of an encoder that divide the image, the nearest to a seventh of it."""
    sides = [side for side in range(stride, image_size, stride) if image_size % side == 0]
    return min(sides, key=lambda side: abs(side - image_size / 7))


def masked_cells(ratio: float, cells: int) -> int:
    """How many cells are masked: `ratio` of them, rounded up, and neither none nor all."""
    return min(max(math.ceil(ratio * cells), 1), cells - 1)


def finer(mask: Tensor, times: int) -> Tensor:
    """A mask (B, N) of cells as one (B, N * times * times) of the parts that each is cut in, `times` along a side."""
    grid = math.isqrt(mask.shape[1])
    return mask.view(-1, grid, grid).repeat_interleave(times, 1).repeat_interleave(times, 2).flatten(1)
