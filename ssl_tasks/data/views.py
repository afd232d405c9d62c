"""Augmented views of a whole batch at once, on its device, every sample with its own random parameters.

All that is random is drawn first, for the whole batch of all processes; then the batch is worked on in pieces that fit a CPU's
cache. The order of changes is the papers': crop and flip, colour jitter, grey, blur, solarize; see `geometry` and `colours`. What is
done to copies comes last: marks on the image, then compression; see `marks`.

Differs from torchvision's (and so from SimCLR's and DINO's) pipelines:
- A crop's box has fractional edges, and is resized with a triangle filter; BYOL, DINO and MAE resize with a cubic one.
- Jitter's four changes come in an order that is drawn for each view of each batch, not for each image.
- Blur's sigma shrinks with the crop: 0.1 to 2.0 is meant for 224 px.
- Pixels stay fractions; nothing is rounded to 8 bits on the way.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from schemas.views import Views
from ssl_tasks.data import colours, marks
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.geometry import blurred, crop, random_boxes, turned
from ssl_tasks.data.geometry import resized as resized


class _MeanStd(dict[int, tuple[list[float], list[float]]]):
    def __missing__(self, channels: int) -> tuple[list[float], list[float]]:
        return [0.5] * channels, [0.25] * channels


MEAN_STD = _MeanStd({1: ([0.5], [0.5]), 3: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])})
"""Mean and standard deviation of each channel, for pixels in [0, 1], by the number of channels: ImageNet's for RGB."""

JITTER = {
    "brightness": colours.adjust_brightness,
    "contrast": colours.adjust_contrast,
    "saturation": colours.adjust_saturation,
    "hue": colours.adjust_hue,
}
PIECE = 2**20
"""Numbers of a view that are worked on at a time on a CPU: 4 MB, so that they stay in its cache."""


def augment(config: Views, images: Tensor, size: int, draw: Draw) -> list[Tensor]:
    """Views of a batch: `count` global crops of side `size`, then `local_count` of side `local_side(size)`.

    Args:
        images: uint8, (B, C, S, S), of any C and S.
        draw: the only source of randomness, on the images' device.

    Returns:
        One float32 tensor (B, C, side, side) a view, normalised by `MEAN_STD`.
    """
    return augment_with_boxes(config, images, size, draw)[0]


def augment_with_boxes(config: Views, images: Tensor, size: int, draw: Draw) -> tuple[list[Tensor], Tensor]:
    """The views of `augment`, and where each was cut out of its image.

    Returns:
        Views, and (B, views, 5): left, top, width and height of a view's box in pixels of the image, and 1 where it was mirrored.
    """
    samples, channels, side, _ = images.shape
    plans = [_plan(config, crop, side, channels, size, draw) for crop in range(config.count + config.local_count)]
    views = [torch.empty(samples, channels, plan.size, plan.size, device=images.device) for plan in plans]
    piece = max(1, PIECE // (channels * side * side)) if images.device.type == "cpu" else samples
    for rows in (slice(start, start + piece) for start in range(0, samples, piece)):
        pixels = images[rows].float().div_(255)
        for view, plan in zip(views, plans, strict=True):
            view[rows] = _applied(plan, pixels, rows)
    return views, torch.stack([torch.stack([*plan.box, plan.flip.float()], dim=1) for plan in plans], dim=1)


def normalise(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1], (B, C, H, W), less the channels' mean, over their standard deviation."""
    mean, std = (torch.tensor(v, device=pixels.device).view(-1, 1, 1) for v in MEAN_STD[pixels.shape[1]])
    return (pixels - mean).div_(std)


def pixels(views: Tensor) -> Tensor:
    """Pixels in [0, 1] of what `normalise` gave."""
    mean, std = (torch.tensor(v, device=views.device).view(-1, 1, 1) for v in MEAN_STD[views.shape[1]])
    return (views * std + mean).clamp(0, 1)


class Plan(NamedTuple):
    """One view of a batch as it was drawn; every tensor has a row a sample, None stands for what is not done.

    Attributes:
        size: side of the view, in pixels.
        box: left, top, width and height in the image.
        jitter: changes of colour in their order, with their factors.
        sigma: of the blur, in pixels of the view; 0 for none.
        over: texts and shapes drawn over it.
        quality: of the compression; infinity for none.
    """

    size: int
    box: tuple[Tensor, Tensor, Tensor, Tensor]
    flip: Tensor
    turn: tuple[Tensor, Tensor] | None
    jitter: list[tuple[str, Tensor]]
    grey: Tensor | None
    sigma: Tensor | None
    solarize: Tensor | None
    noise: Tensor | None
    over: list[marks.Mark]
    quality: Tensor | None


def _plan(config: Views, number: int, side: int, channels: int, image_size: int, draw: Draw) -> Plan:
    """Draw the view `number` of images of `side`."""
    is_global = number < config.count
    size, scale = (image_size, config.scale) if is_global else (config.local_side(image_size), config.local_scale)
    blur, solarize = (config.probabilities(name)[number] for name in ("blur", "solarize"))
    return Plan(
        size=size,
        box=random_boxes(draw, side, scale, config.ratio),
        flip=draw.chance(config.flip),
        turn=_turn(config, draw) if config.rotation or config.shear else None,
        jitter=_jitter(config, channels, draw) if config.jitter else [],
        grey=draw.chance(config.grey) if config.grey and channels == 3 else None,
        sigma=draw.chance(blur) * draw.uniform(*config.blur_sigma) * size / 224 if blur else None,
        solarize=draw.chance(solarize) if solarize else None,
        noise=config.noise * draw.normals(channels, size, size) if config.noise else None,
        over=marks.drawn(draw, channels, config.text, config.shape),
        quality=torch.where(draw.chance(config.compression), draw.uniform(1, 100), torch.inf) if config.compression else None,
    )


def _turn(config: Views, draw: Draw) -> tuple[Tensor, Tensor]:
    degrees, shear = draw.uniform(-config.rotation, config.rotation), draw.uniform(-config.shear, config.shear)
    turned = draw.chance(config.turn) if config.turn < 1 else True
    return degrees * turned, shear * turned


def _jitter(config: Views, channels: int, draw: Draw) -> list[tuple[str, Tensor]]:
    strengths = {"brightness": config.brightness, "contrast": config.contrast, "saturation": config.saturation, "hue": config.hue}
    names = [name for name, strength in strengths.items() if strength and (channels == 3 or name in ("brightness", "contrast"))]
    jittered, factors = draw.chance(config.jitter), []
    for name in (names[place] for place in draw.order(len(names))):
        neutral, strength = (0.0 if name == "hue" else 1.0), strengths[name]
        drawn = draw.uniform(neutral - min(neutral or strength, strength), neutral + strength)
        factors.append((name, torch.where(jittered, drawn, neutral)))
    return factors


def _applied(plan: Plan, pixels: Tensor, rows: slice) -> Tensor:
    """The view of pixels in [0, 1] that are `rows` of the batch."""
    left, top, width, height = (edge[rows] for edge in plan.box)
    x = crop(pixels, left, top, width, height, plan.size, plan.flip[rows])
    if plan.turn:
        x = turned(x, plan.turn[0][rows], plan.turn[1][rows])
    for name, factor in plan.jitter:
        x = JITTER[name](x, factor[rows])
    if plan.grey is not None:
        x = _chosen(plan.grey[rows], colours.rgb_to_grayscale(x), x)
    if plan.sigma is not None:
        x = blurred(x, plan.sigma[rows])
    if plan.solarize is not None:
        x = _chosen(plan.solarize[rows], colours.solarize(x), x)
    if plan.noise is not None:
        x = x + plan.noise[rows]
    for mark in plan.over:
        x = marks.marked(x, mark.of(rows))
    if plan.quality is not None:
        x = marks.compressed(x, plan.quality[rows])
    return normalise(x)


def _chosen(chosen: Tensor, changed: Tensor, plain: Tensor) -> Tensor:
    """What `where` gives, several times as fast on a CPU."""
    return torch.lerp(plain, changed, chosen.float().view(-1, 1, 1, 1))
