"""Common corruptions: Hendrycks, Dietterich, 2019, https://arxiv.org/abs/1903.12261, appendix B: 15 kinds in five severities, made on the fly.

The strengths are the authors' (https://github.com/hendrycks/robustness): for sides above 64 pixels those of ImageNet-C, for smaller ones those of
CIFAR-10-C. What is a length in pixels is scaled by the side over 224, or over 32 where it is larger. An image is corrupted the same way
wherever it stands: its random numbers follow from a seed and its key alone, and are the same in all severities of a kind.
Shapes: B images, C channels, S pixels a side; float images lie in [0, 1].

Differs from the authors' code, so that numbers do not compare with those on their files:
- Frost is drawn (veins and haze of fractal noise, bluish), not taken from six photographs; fog is a sum of octaves of interpolated noise,
  not a diamond-square fractal.
- Glass: in each round a pixel takes the value of one nearby, as far to either side; theirs exchange values one after the other.
- Defocus: the disc has a soft edge, so that its radius need not be whole. Zoom: the enlarged part has fractional edges.
- Elastic: the affine and the fine displacement are one resampling. As with theirs the severities are no order by pixels: the first two (of
  ImageNet-C, all but the last of CIFAR-10-C) shift wide, the later ones ripple.
- Images of other than three channels: the same; brightness is added to the brightest channel, JPEG compresses each channel alone.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

SMALL = 64
"""Side in pixels up to which strengths are those of CIFAR-10-C."""
_LUMINANCE = 0.299, 0.587, 0.114


class Dice:
    """Random numbers of a batch, each image's from a generator of its own.

    Attributes:
        scale: of lengths in pixels.
    """

    def __init__(self, keys: Sequence[int], seed: int, kind: int, scale: float, device: torch.device) -> None:
        self.generators = [np.random.default_rng([seed, kind, key]) for key in keys]
        self.scale, self.device = scale, device

    def each(self, draw: Callable[[np.random.Generator, int], NDArray[Any]]) -> Tensor:
        """What `draw` makes of each image's generator and number, (B, ...), float32."""
        return torch.from_numpy(np.stack([draw(g, i) for i, g in enumerate(self.generators)]).astype(np.float32)).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers (B, *shape) in [0, 1)."""
        return self.each(lambda g, _: g.random(shape))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (B, *shape)."""
        return self.each(lambda g, _: g.normal(size=shape))


def corrupted(images: Tensor, kind: str, severity: int, keys: Sequence[int], seed: int = 0) -> Tensor:
    """Images, corrupted: uint8 (B, C, S, S) as they came.

    Args:
        kind: of `KINDS`.
        severity: 1 to 5.
        keys: of each image a number that stands for it, not below 0.
    """
    side = images.shape[-1]
    known = KINDS[kind]
    strengths, scale = (known.small, max(side, 32) / 32) if side <= SMALL else (known.large, side / 224)
    dice = Dice(keys, seed, list(KINDS).index(kind), scale, images.device)
    return known.make(images.float() / 255, dice, *strengths[severity - 1]).clamp(0, 1).mul(255).round().to(torch.uint8)


def gaussian_noise(x: Tensor, dice: Dice, deviation: float) -> Tensor:
    return x + deviation * dice.normal(*x.shape[1:])


def shot_noise(x: Tensor, dice: Dice, photons: float) -> Tensor:
    expected = (x.double() * photons).cpu().numpy()
    return dice.each(lambda g, i: g.poisson(expected[i])) / photons


def impulse_noise(x: Tensor, dice: Dice, share: float) -> Tensor:
    hit, salt = dice.uniform(*x.shape[1:]) < share, dice.uniform(*x.shape[1:]) < 0.5
    return torch.where(hit, salt.float(), x)


def defocus_blur(x: Tensor, dice: Dice, radius: float, soft: float) -> Tensor:
    radius *= dice.scale
    reach = math.ceil(radius)
    axis = torch.arange(-reach, reach + 1, device=x.device)
    disc = (radius + 0.5 - torch.hypot(axis[:, None].float(), axis[None].float())).clamp(0, 1)
    padded = pad(x, (reach, reach, reach, reach), mode="reflect")
    sides = padded.shape[2:]
    waves = torch.fft.rfft2(padded) * torch.fft.rfft2(disc / disc.sum(), s=sides)  # 8 times as fast as a sum over the disc at 224 px
    return _blurred(torch.fft.irfft2(waves, s=sides)[..., 2 * reach :, 2 * reach :], soft, 1 if radius <= 8 else 2)


def glass_blur(x: Tensor, dice: Dice, deviation: float, distance: float, rounds: int) -> Tensor:
    side = x.shape[-1]
    x = _blurred(x, deviation * dice.scale)
    for _ in range(rounds):
        down, across = ((2 * dice.uniform(2, side, side) - 1) * distance * dice.scale).round().long().unbind(1)
        x = _taken(x, down, across)
    return _blurred(x, deviation * dice.scale)


def motion_blur(x: Tensor, dice: Dice, radius: float, deviation: float) -> Tensor:
    return _streaked(x, radius * dice.scale, deviation * dice.scale, dice.uniform() * 90 - 45)


def zoom_blur(x: Tensor, _: Dice, most: float, step: float) -> Tensor:
    factors = 1 + step * np.arange(round((most - 1) / step) + 1)
    return (x + torch.stack([_zoomed(x, factor) for factor in factors]).sum(0)) / (len(factors) + 1)


def snow(x: Tensor, dice: Dice, mean: float, deviation: float, flake: float, least: float, radius: float, streak: float, kept: float) -> Tensor:
    side = round(x.shape[-1] / dice.scale)  # thresholds are of noise of this size
    layer = _zoomed(mean + deviation * dice.normal(1, side, side), flake)
    layer = torch.where(layer < least, 0.0, layer).clamp(0, 1)
    layer = _streaked(layer, radius, streak, dice.uniform() * 90 - 135)
    layer = interpolate(layer, size=x.shape[2:], mode="bilinear", antialias=True, align_corners=False)
    whitened = kept * x + (1 - kept) * torch.maximum(x, _grey(x) * 1.5 + 0.5)
    return whitened + layer + layer.rot90(2, (2, 3))


def frost(x: Tensor, dice: Dice, kept: float, ice: float) -> Tensor:
    side, channels = x.shape[-1], x.shape[1]
    veins = torch.stack([1 - (2 * _clouds(dice, side, 1.7) - 1).abs() for _ in range(2)]).pow(5).amax(0)
    tint = torch.tensor([0.82, 0.92, 1.0], device=x.device) if channels == 3 else torch.ones(channels, device=x.device)
    return kept * x + ice * tint.view(-1, 1, 1) * (0.35 + 0.3 * _clouds(dice, side, 1.5) + 0.45 * veins).clamp(max=1)


def fog(x: Tensor, dice: Dice, thickness: float, decay: float) -> Tensor:
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + thickness * _clouds(dice, x.shape[-1], decay)) * brightest / (brightest + thickness)


def brightness(x: Tensor, _: Dice, added: float) -> Tensor:
    """The value of HSV, added to: hue and saturation stay, so that all channels grow by one factor; black becomes grey."""
    value = x.amax(1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.clamp(min=1e-6), brighter)


def contrast(x: Tensor, _: Dice, factor: float) -> Tensor:
    means = x.mean((2, 3), keepdim=True)
    return (x - means) * factor + means


def elastic(x: Tensor, dice: Dice, strength: float, smooth: float, shift: float) -> Tensor:
    """Three points of the image are moved by up to `shift` and the rest with them, then each pixel by smooth noise; all as shares of the side."""
    from scipy.fft import dctn, idctn

    side = x.shape[-1]
    middle, third = side // 2, side // 3
    points = np.array([[middle + third, middle + third], [middle + third, middle - third], [middle - third, middle - third]], np.float64)
    moved = points + shift * side * (2 * dice.uniform(3, 2).double().cpu().numpy() - 1)
    ones = np.ones((len(moved), 3, 1))
    back = np.linalg.solve(np.concatenate([moved, ones], 2), np.broadcast_to(points, moved.shape))  # (B, 3, 2), from moved points to where they were
    noise = 2 * dice.uniform(2, side, side).double().cpu().numpy() - 1
    damping = np.exp(-0.5 * (smooth * side * math.pi * np.arange(side) / side) ** 2)  # a Gaussian blur with mirrored edges
    shifts = strength * side * idctn(dctn(noise, axes=(2, 3), norm="ortho") * damping[:, None] * damping, axes=(2, 3), norm="ortho")
    down, across = np.mgrid[:side, :side]
    places = np.stack([across + shifts[:, 0], down + shifts[:, 1], np.ones_like(shifts[:, 0])], -1) @ back[:, None]
    grid = torch.from_numpy(places * 2 / max(side - 1, 1) - 1).to(x)
    return grid_sample(x, grid, padding_mode="reflection", align_corners=True)


def pixelate(x: Tensor, _: Dice, share: float) -> Tensor:
    side = x.shape[-1]
    coarse = max(1, int(side * share))
    return _pillow(x, lambda image: image.resize((coarse, coarse), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX))


def jpeg(x: Tensor, _: Dice, quality: int) -> Tensor:
    def stored(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _pillow(x, stored)


def _pillow(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """What Pillow makes of each image, or of each channel where it knows no images of so many."""
    planes = (x if x.shape[1] in (1, 3) else x.flatten(0, 1)[:, None]).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    changed = [np.array(change(Image.fromarray(plane.squeeze()))).reshape(plane.shape) for plane in planes]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).reshape(x.shape).to(x.device).float() / 255


def _clouds(dice: Dice, side: int, decay: float) -> Tensor:
    """Fractal noise (B, 1, S, S) from 0 to 1: each octave is twice as fine, and fainter by `decay`."""
    total = torch.zeros(len(dice.generators), 1, side, side, device=dice.device)
    for octave in range(1, max(2, math.ceil(math.log2(side)) + 1)):
        cells = 2**octave + 1
        total += interpolate(dice.uniform(1, cells, cells), size=(side, side), mode="bilinear", align_corners=True) / decay**octave
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low)


def _streaked(x: Tensor, radius: float, deviation: float, degrees_B: Tensor) -> Tensor:
    """Each image blurred to one side along its direction, by half a Gaussian."""
    steps = torch.arange(2 * math.ceil(radius) + 1, device=x.device)
    weights = torch.exp(-0.5 * (steps / deviation) ** 2)
    angles, total = degrees_B.deg2rad().view(-1, 1, 1), torch.zeros_like(x)
    for step, weight in enumerate((weights / weights.sum()).tolist()):
        total += weight * _taken(x, (step * angles.sin()).round().long(), (step * angles.cos()).round().long())
    return total


def _taken(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Each pixel from so many rows and columns further on, (B, S, S) or (B, 1, 1); the edges go on outside."""
    side = x.shape[-1]
    axis = torch.arange(side, device=x.device)
    places = (axis[:, None] + down).clamp(0, side - 1) * side + (axis + across).clamp(0, side - 1)
    return x.flatten(2).gather(2, places.view(len(x), 1, -1).expand(-1, x.shape[1], -1)).view(x.shape)


def _zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle of images, enlarged by a factor to their size."""
    theta = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    return grid_sample(x, affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border", align_corners=False)


def _blurred(x: Tensor, deviation: float, reach: int | None = None) -> Tensor:
    """A Gaussian blur, cut off after four deviations unless told; the edges go on outside."""
    reach = int(4 * deviation + 0.5) if reach is None else reach
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    for _ in range(2):
        padded = pad(x, (0, 0, reach, reach), mode="replicate")
        rows = [weight * padded[:, :, start : start + x.shape[2]] for start, weight in enumerate((weights / weights.sum()).tolist())]
        x = torch.stack(rows).sum(0).mT
    return x


def _grey(x: Tensor) -> Tensor:
    weights = x.new_tensor(_LUMINANCE) if x.shape[1] == 3 else x.new_full((x.shape[1],), 1 / x.shape[1])
    return (x * weights.view(-1, 1, 1)).sum(1, keepdim=True)


class Kind(NamedTuple):
    """How a corruption is made, and its strengths by severity for large and for small images."""

    make: Callable[..., Tensor]
    large: Sequence[tuple[float, ...]]
    small: Sequence[tuple[float, ...]]


def _one(*values: float) -> list[tuple[float, ...]]:
    return [(value,) for value in values]


KINDS: Mapping[str, Kind] = {
    "gaussian_noise": Kind(gaussian_noise, _one(0.08, 0.12, 0.18, 0.26, 0.38), _one(0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Kind(shot_noise, _one(60, 25, 12, 5, 3), _one(500, 250, 100, 75, 50)),
    "impulse_noise": Kind(impulse_noise, _one(0.03, 0.06, 0.09, 0.17, 0.27), _one(0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Kind(
        defocus_blur, [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)], [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)]
    ),
    "glass_blur": Kind(
        glass_blur, [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)], [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)]
    ),
    "motion_blur": Kind(motion_blur, [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)], [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)]),
    "zoom_blur": Kind(
        zoom_blur,
        [(1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.24, 0.02), (1.30, 0.03)],
        [(1.05, 0.01), (1.10, 0.01), (1.15, 0.01), (1.20, 0.01), (1.25, 0.01)],
    ),
    "snow": Kind(
        snow,
        [(0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7), (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
         (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)],
        [(0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
         (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)],
    ),
    "frost": Kind(frost, [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)], [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)]),
    "fog": Kind(fog, [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)], [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)]),
    "brightness": Kind(brightness, _one(0.1, 0.2, 0.3, 0.4, 0.5), _one(0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Kind(contrast, _one(0.4, 0.3, 0.2, 0.1, 0.05), _one(0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic": Kind(
        elastic,
        [(2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)],
        [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
    ),
    "pixelate": Kind(pixelate, _one(0.6, 0.5, 0.4, 0.3, 0.25), _one(0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": Kind(jpeg, _one(25, 18, 15, 10, 7), _one(80, 65, 58, 50, 40)),
}  # fmt: skip
"""Every corruption: severity 1 to 5 for sides above `SMALL`, and up to it."""
