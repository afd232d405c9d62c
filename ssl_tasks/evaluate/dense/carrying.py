"""Masks carried from frame to frame by nearest patches: Jabri et al., 2020, https://arxiv.org/abs/2006.14613, section 4.1, as DINO does it.

Shapes: K objects, D width, h x w patches of a frame, N in all.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

_BLOCK = 1 << 24
"""Similarities that are held at once, 64 MB."""


def propagate(frames: Iterable[Tensor], first: Tensor, context: int, neighbours: int, radius: int, temperature: float) -> Iterator[Tensor]:
    """The masks of every frame after the first, (K, h, w) each.

    Args:
        frames: features of unit length of each frame's patches, (D, h, w), from the first frame on.
        first: of each of K objects how much of each patch of the first frame it covers, (K, h, w); the ground is one of them.
        context: how many of the frames before are looked at, besides the first.
        neighbours: patches that a patch takes its mask from.
        radius: in patches along each axis, beyond which none is looked at.
        temperature: of the weights exp(cosine / temperature).
    """
    walk = iter(frames)
    start = (next(walk).flatten(1), first.flatten(1))
    known: deque[tuple[Tensor, Tensor]] = deque(maxlen=context)
    for features in walk:
        sources = [start, *known]
        keys, values = (torch.cat([source[i] for source in sources], dim=1) for i in range(2))
        patches = features.flatten(1)
        masks = _carry(patches, keys, values, _axes(first), neighbours, radius, temperature)
        known.append((patches, masks))
        yield masks.view_as(first)


def _carry(patches: Tensor, keys: Tensor, values: Tensor, axes: Tensor, neighbours: int, radius: int, temperature: float) -> Tensor:
    """(K, N), of the N patches (D, N) of a frame and those of the frames before, (D, M) with masks (K, M); `axes` (2, N) are their places."""
    carried_on = []
    for rows in torch.split(torch.arange(patches.shape[1], device=patches.device), max(1, _BLOCK // keys.shape[1])):
        far = ((axes[:, rows, None] - axes[:, None]).abs() > radius).any(0)
        similarities = (patches[:, rows].T @ keys).masked_fill(far.repeat(1, keys.shape[1] // far.shape[1]), -torch.inf)
        nearest = similarities.topk(min(neighbours, keys.shape[1]))
        carried_on.append((values[:, nearest.indices] * (nearest.values / temperature).softmax(1)).sum(2))
    return torch.cat(carried_on, dim=1)


def _axes(grid_like: Tensor) -> Tensor:
    """Row and column of each patch, (2, N)."""
    height, width = grid_like.shape[-2:]
    return torch.cartesian_prod(torch.arange(height, device=grid_like.device), torch.arange(width, device=grid_like.device)).T


def decide(masks: Tensor, size: tuple[int, int]) -> NDArray[np.int64]:
    """Which of K objects each pixel is of, (H, W): masks (K, h, w) are enlarged, and each stretched to run from 0 to 1."""
    enlarged = interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]
    low, high = enlarged.amin((1, 2), keepdim=True), enlarged.amax((1, 2), keepdim=True)
    stretched = torch.where(high > 0, (enlarged - low) / (high - low).clamp(min=1e-12), enlarged)
    chosen: NDArray[np.int64] = stretched.argmax(0).cpu().numpy()
    return chosen
