"""CutMix and MixUp of a batch of views with other images of it, every sample by its own numbers.

MixUp blends two images (https://arxiv.org/abs/1710.09412), CutMix pastes a box of one on the other (https://arxiv.org/abs/1905.04899).
The shares of both are Beta(2, 2), and each is done as often as the other, as in SSCD's code
(https://github.com/facebookresearch/sscd-copy-detection). Differs from CutMix: the box lies whole inside the image.
"""

import torch
from torch import Tensor

from ssl_tasks.data.draw import Draw


def mixes(draw: Draw, probability: float) -> Tensor:
    """How each sample is mixed (B, 5): the other image's weight everywhere, then left, top, right and bottom of its box, as shares of the side.

    All are 0 where a sample is left as it is.
    """
    chosen, cut = draw.chance(probability), draw.chance(0.5)
    share = draw.uniforms(3).median(dim=1).values  # Beta(2, 2) is the middle one of three uniform numbers
    side = share.sqrt()
    left, top = draw.uniform() * (1 - side), draw.uniform() * (1 - side)
    box = torch.stack([left, top, left + side, top + side], dim=1) * (chosen & cut)[:, None]
    return torch.cat([(share * (chosen & ~cut))[:, None], box], dim=1)


def mixed(views: Tensor, others: Tensor, plan: Tensor) -> Tensor:
    """Views (B, C, H, W) with the other images in them, as `mixes` (B, 5) says."""
    weight, left, top, right, bottom = (number.view(-1, 1, 1, 1) for number in plan.unbind(1))
    rows, columns = (torch.arange(size, device=views.device, dtype=plan.dtype).add_(0.5).div_(size) for size in views.shape[2:])
    rows = rows.view(1, 1, -1, 1)
    inside = (rows > top) & (rows < bottom) & (columns > left) & (columns < right)
    return torch.lerp(views, others, torch.where(inside, 1.0, weight).to(views.dtype))


def contents(plan: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Numbers (B, 2) of the images that each view shows: `rows` (B,), and `others` (B,) where it is mixed, the same twice where not."""
    return torch.stack([rows, torch.where(plan.any(dim=1), others, rows)], dim=1)


def sharing(contents_B2: Tensor, others_N2: Tensor) -> Tensor:
    """Which of N views show an image that each of B views shows too, (B, N)."""
    found = [contents_B2[:, i, None] == others_N2[None, :, j] for i in range(2) for j in range(2)]
    return torch.stack(found).any(dim=0)
