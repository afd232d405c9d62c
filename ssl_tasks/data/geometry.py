"""Crops, blurs and turns of a whole batch at once, every sample with its own numbers.

Resizing and blurring are weighted sums of a few rows, then of a few columns. A sum of rows is one `embedding_bag`, which reads
nothing but those rows: on a CPU 4 times (32 px) to 9 times (224 px) as fast as a product with the dense resampling matrix.
Columns are rows of the transposed image; results are left as the last sum wrote them and put in order by who needs them so.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, embedding_bag, grid_sample, interpolate

from ssl_tasks.data.draw import Draw

TRIES = 10


def random_boxes(draw: Draw, side: int, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, width and height (B,) in pixels, of boxes inside a square of `side`, as torchvision's `RandomResizedCrop` draws them.

    Share of the area and ratio are drawn together until the box fits, at most ten times; then the largest box is taken that has
    the nearest ratio to 1.

    Args:
        scale: range of the box's share of the area, uniform.
        ratio: range of width over height, uniform in its logarithm.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    tries = draw.uniforms(TRIES, 2)
    share, tilt = scale[0] + (scale[1] - scale[0]) * tries[..., 0], low + (high - low) * tries[..., 1]
    fits = tilt.abs() <= -share.log()
    chosen = fits.float().argmax(dim=1, keepdim=True)
    share, tilt = share.gather(1, chosen)[:, 0].log(), tilt.gather(1, chosen)[:, 0]
    fallback = max(low, min(high, 0.0))
    share, tilt = torch.where(fits.any(dim=1), share, -abs(fallback)), torch.where(fits.any(dim=1), tilt, fallback)
    width, height = side * ((share + tilt) / 2).exp(), side * ((share - tilt) / 2).exp()
    return draw.uniform() * (side - width), draw.uniform() * (side - height), width, height


def crop(pixels: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Boxes of images, resized with antialiasing to (B, C, size, size).

    Equals torchvision's `resized_crop(antialias=True)` for boxes with whole-numbered edges.

    Args:
        pixels: float (B, C, S, S).
        left, top, width, height: of each sample's box, (B,), in pixels.
        flip: which samples are mirrored, (B,).
    """
    x = summed_rows(pixels, *resampling(top, height, pixels.shape[2], size))
    return summed_rows(x.mT.contiguous(), *resampling(left, width, pixels.shape[3], size, flip)).mT


def resampling(start: Tensor, length: Tensor, source: int, target: int, flip: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Which of `source` pixels make up each of `target` pixels that show the stretch [start, start + length), and their weights.

    A triangle filter, widened by the factor of a reduction. A pixel weighs by the share of it that lies in the stretch.

    Returns:
        Numbers of pixels and weights, each (B, target, taps).
    """
    step = (length / target).view(-1, 1, 1)
    start, end = start.view(-1, 1, 1), (start + length).view(-1, 1, 1)
    place = torch.arange(target, device=length.device).view(1, -1, 1).expand(len(length), -1, 1)
    if flip is not None:
        place = torch.where(flip.view(-1, 1, 1), target - 1 - place, place)
    centre, reach = start + step * (place + 0.5), step.clamp(min=1)
    taps = math.ceil(2 * max(1.0, source / target))
    pixel = (centre - reach - 0.5).floor() + torch.arange(1, taps + 1, device=length.device)
    inside = (torch.minimum(pixel + 1, end) - torch.maximum(pixel, start)).clamp(0, 1)
    weight = (1 - (pixel + 0.5 - centre).abs() / reach).clamp(min=0) * inside
    return pixel.clamp(0, source - 1).int(), weight / weight.sum(-1, keepdim=True)


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, C, H, W) after a Gaussian blur, mirrored at the edges; the kernel is a tenth of the side wide (SimCLR's) or 3 pixels.

    Args:
        x: what `crop` made, which may be written over.
        sigma: standard deviation (B,) in pixels; 0 leaves a sample as it is.
    """
    # On a GPU to know which samples are blurred would mean to wait for it.
    chosen = sigma.nonzero()[:, 0] if sigma.device.type == "cpu" else torch.arange(len(sigma), device=sigma.device)
    for _ in range(2):
        x = x.mT.contiguous()
        if len(chosen):
            x.index_copy_(0, chosen, summed_rows(x[chosen], *_blurring(sigma[chosen], x.shape[2])))
    return x


def _blurring(sigma: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Pixels and weights, as of `resampling`, each row a Gaussian around its own pixel."""
    reach = max(1, side // 20)
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    weight = torch.exp(-(offset**2) / (2 * sigma.clamp(min=0.01).view(-1, 1, 1) ** 2))
    weight = (weight / weight.sum(-1, keepdim=True)).expand(-1, side, -1)
    pixel = (torch.arange(side, device=sigma.device)[:, None] + offset).abs()
    mirrored = (side - 1 - (side - 1 - pixel).abs()).clamp(min=0)
    return mirrored.int().expand_as(weight), weight


def summed_rows(x: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of images (B, C, H, W): (B, C, T, W), for numbers of rows and weights that are (B, T, taps)."""
    samples, channels, height, width = x.shape
    first = torch.arange(samples * channels, device=x.device, dtype=torch.int32).view(samples, channels, 1, 1) * height
    taken = (rows[:, None] + first).flatten(0, 2)
    weights = weights[:, None].expand(-1, channels, -1, -1).flatten(0, 2)
    return embedding_bag(taken, x.reshape(-1, width), mode="sum", per_sample_weights=weights).view(samples, channels, -1, width)


def turned(x: Tensor, degrees: Tensor, shear: Tensor) -> Tensor:
    """Images rotated and sheared around their middle; what comes in from outside is black.

    Args:
        degrees: (B,), counter-clockwise.
        shear: (B,), shift of a row to the left over its distance below the middle.
    """
    cos, sin = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    zero = torch.zeros_like(cos)
    matrix = torch.stack([cos, cos * shear - sin, zero, sin, sin * shear + cos, zero], dim=1).view(-1, 2, 3)
    return grid_sample(x, affine_grid(matrix, list(x.shape), align_corners=False), align_corners=False)


def resized(views: Tensor, size: int) -> Tensor:
    """Views (B, C, H, W) as an encoder of another image size takes them: (B, C, size, size), antialiased."""
    if views.shape[-1] == size:
        return views
    return interpolate(views, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
