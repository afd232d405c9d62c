"""Masks of several blocks at once, for methods that predict one part of an image from another. Shapes: B samples, N patches of a square grid."""

import math

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from ssl_tasks.data.draw import Draw
from ssl_tasks.schedules import linear

BLOCK = 3
"""Side of the blocks that `all_but_blocks` leaves, in patches."""
LEAST = 10
"""Patches of a context, at least. https://github.com/facebookresearch/ijepa (`min_keep`)"""


def all_but_blocks(draw: Draw, grid: int, masked: int, masks: int) -> Tensor:
    """Masks (B, `masks`, N), true where masked: all but small square blocks, with exactly `masked` patches in each.

    Blocks of 3 x 3 patches are laid around patches in a random order until enough is left to see; of the last one only a random part.
    https://arxiv.org/abs/2212.07525, section 3.3, "Inverse block masking"
    """
    order = draw.uniforms(masks, grid, grid)
    laid = -max_pool2d(-order, BLOCK, stride=1, padding=BLOCK // 2)  # when the first block over a patch is
    last = laid.flatten(2) + 1e-5 * draw.uniforms(masks, grid * grid)
    return last.argsort(2).argsort(2) >= grid * grid - masked


def context_and_targets(
    draw: Draw, grid: int, targets: int, target_scale: tuple[float, float], target_aspect: tuple[float, float], context_scale: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Patches of a context (B, n) and of target blocks (B, `targets`, m), by their numbers: no patch of a target is in the context.

    Blocks have one size for the batch of all processes, and places of their own. The context is a square block less the targets, cut at
    random to the fewest that any image of the batch has left; an image that has fewer than `least_context` takes others outside of its
    square. https://arxiv.org/abs/2301.08243, appendix A.1

    Args:
        grid: patches along a side.
        target_scale, target_aspect: ranges of a target's share of the image, and of its height over its width.
        context_scale: range of the context block's share.
    """
    whole, least = Draw(draw.generator, draw.samples), least_context(grid)
    scale, aspect, share = Draw(draw.generator, 1).uniforms(3)[0].tolist()
    height, width = _sides(grid, linear(scale, *target_scale), linear(aspect, *target_aspect), (grid**2 - least) // targets)
    wanted = _block(whole.uniforms(targets, 2), height, width, grid)
    context = _block(whole.uniforms(2), *_sides(grid, linear(share, *context_scale), 1.0, grid**2), grid)
    taken, outside = torch.zeros(2, draw.samples, grid**2, dtype=torch.bool, device=wanted.device)
    taken.scatter_(1, wanted.flatten(1), True)
    outside.fill_(True).scatter_(1, context, False)
    count = max(least, int((~taken & ~outside).sum(1).min()))
    kept = (2 * taken + 1 * outside + whole.uniforms(grid**2)).argsort(1)[:, :count]
    return kept[draw.own], wanted[draw.own]


def least_context(grid: int) -> int:
    """Patches that a context has at least: a quarter of a small grid."""
    return min(LEAST, grid**2 // 4)


def _sides(grid: int, share: float, aspect: float, most: int) -> tuple[int, int]:
    """Height and width in whole patches of a block that covers about `share` of the grid, and at most `most` patches."""
    area = share * grid**2
    height, width = (min(max(round(math.sqrt(side)), 1), grid) for side in (area * aspect, area / aspect))
    while height * width > most:
        height, width = (height - 1, width) if height >= width else (height, width - 1)
    return height, width


def _block(corners: Tensor, height: int, width: int, grid: int) -> Tensor:
    """Numbers (..., height * width) of the patches of blocks; `corners` (..., 2) in [0, 1) is where between the first and the last that fits."""
    top, left = (corners[..., 0] * (grid - height + 1)).long(), (corners[..., 1] * (grid - width + 1)).long()
    rows, columns = torch.arange(height, device=corners.device), torch.arange(width, device=corners.device)
    return ((top[..., None, None] + rows[:, None]) * grid + left[..., None, None] + columns).flatten(-2)
