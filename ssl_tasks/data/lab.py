"""CIE Lab of sRGB images, and the bins by which colours are told. Shapes: B images, Q bins, N places.

Pixels lie in [0, 1]. The white point is D65, that of sRGB itself: white is L = 100, a = b = 0, and so a = b = 0 for every grey.
https://en.wikipedia.org/wiki/CIELAB_color_space, https://en.wikipedia.org/wiki/SRGB
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ssl_tasks.data.views import normalise, pixels

XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
"""Of linear red, green and blue: IEC 61966-2-1."""
WHITE = tuple(sum(row) for row in XYZ)
LINEAR, CUBE = 0.0031308, 6 / 29
"""Where sRGB's curve, and Lab's, turn from a line into a power."""
SHADES = 256
MIDDLE = 50.0
"""The lightness at which colours are shown that are shown without lightness."""


def lab(rgb: Tensor) -> Tensor:
    """L in [0, 100], a and b, (B, 3, H, W), of RGB images (B, 3, H, W)."""
    linear = torch.where(rgb <= 12.92 * LINEAR, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = (_bent(_mixed(row, linear) / white) for row, white in zip(XYZ, WHITE, strict=True))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def rgb(lab: Tensor) -> Tensor:
    """RGB images of L, a and b; what sRGB has no colour for gets one on its border, channel by channel."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    xyz = torch.stack([_straight(each) * white for each, white in zip((y + a / 500, y, y - b / 200), WHITE, strict=True)], dim=1)
    return _gamma(torch.stack([_mixed(row, xyz) for row in _inverse()], dim=1))


def grey(rgb: Tensor) -> Tensor:
    """RGB images without colour, each pixel as light as it was."""
    linear = torch.where(rgb <= 12.92 * LINEAR, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return _gamma(_mixed(XYZ[1], linear))[:, None].expand_as(rgb)


def halves(views: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised views as lightness alone, in grey, and as colour alone, all of it at lightness 50; both normalised RGB again."""
    seen = lab(pixels(views))
    return normalise(grey(pixels(views))), normalise(rgb(torch.cat([torch.full_like(seen[:, :1], MIDDLE), seen[:, 1:]], dim=1)))


def at_places(seen: Tensor, side: int) -> Tensor:
    """The mean of each part of maps (B, C, H, W) cut in side x side parts: (B, N, C), row by row."""
    return adaptive_avg_pool2d(seen, side).flatten(2).mT


@cache
def bins(size: int) -> Tensor:
    """Centres (Q, 2) of the squares, `size` wide, of the plane of a and b that hold a colour of sRGB; one of them is grey.

    What lies in a square's inside shows on the surface of the cube of RGB too, as a and b follow from red, green and blue without folds: the
    surface and a coarse inside are looked at. With a size of 10 there are 261.
    """
    shade = torch.linspace(0, 1, SHADES, dtype=torch.float64)
    inside = torch.cartesian_prod(*[shade[::15]] * 3)
    face = torch.cartesian_prod(shade, shade)
    walls = [torch.cat([face[:, :axis], torch.full_like(face[:, :1], end), face[:, axis:]], dim=1) for axis in range(3) for end in (0, 1)]
    colours = lab(torch.cat([inside, *walls])[..., None, None])[:, 1:, 0, 0]
    centres: Tensor = torch.unique((colours / size).round(), dim=0)
    return centres.mul(size).float()


def nearest_bins(ab: Tensor, centres: Tensor, count: int, sigma: float) -> tuple[Tensor, Tensor]:
    """The bins (..., count) nearest to colours (..., 2), the nearest first, and a Gaussian's share (..., count) of each, which add up to 1."""
    distances, found = torch.cdist(ab.flatten(0, -2), centres.to(ab.dtype), compute_mode="donot_use_mm_for_euclid_dist").topk(count, largest=False)
    shares = (-distances.square() / (2 * sigma**2)).softmax(dim=1)
    return found.view(*ab.shape[:-1], count), shares.view(*ab.shape[:-1], count)


def annealed_mean(logits: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Colours (..., 2) of logits (..., Q): the mean of the softmax, sharpened. Between 1, the mean, which is dull, and 0, the mode, which is patchy.

    https://arxiv.org/abs/1603.08511, equation 5
    """
    return (logits.to(centres.dtype) / temperature).softmax(dim=-1) @ centres


def _mixed(row: tuple[float, ...], channels: Tensor) -> Tensor:
    red, green, blue = channels.unbind(1)
    return row[0] * red + row[1] * green + row[2] * blue


def _gamma(linear: Tensor) -> Tensor:
    linear = linear.clamp(0, 1)
    return torch.where(linear <= LINEAR, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _bent(share: Tensor) -> Tensor:
    return torch.where(share > CUBE**3, share.clamp(min=CUBE**3) ** (1 / 3), share / (3 * CUBE**2) + 4 / 29)


def _straight(bent: Tensor) -> Tensor:
    return torch.where(bent > CUBE, bent**3, 3 * CUBE**2 * (bent - 4 / 29))


@cache
def _inverse() -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in torch.tensor(XYZ, dtype=torch.float64).inverse().tolist())
