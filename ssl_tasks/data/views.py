"""Augmented views of a whole batch at once, on its device, every sample with its own random parameters.

Crop, antialiased resize, flip and blur are linear along each axis, so a view of a batch is two batched matrix products:
one matrix an axis a sample. Colour jitter and grey scale are one 3x3 matrix and an offset a sample.

Differs from torchvision's (and so from SimCLR's and DINO's) pipelines:
- A crop's box has fractional edges. Its area is uniform within `scale`; its ratio is drawn from those that fit,
  where torchvision draws both again until they fit.
- Jitter has one order (brightness, contrast, saturation, hue) and is clamped to [0, 1] once, at its end. Hue turns the colour
  plane of YIQ, as NVIDIA DALI does, where torchvision goes through HSV.
- Blur comes with the crop, before the colours, and at an edge weighs only the pixels that there are.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from schemas.views import Views
from ssl_tasks.data.draw import Draw

MEAN_STD: dict[int, tuple[list[float], list[float]]] = {
    1: ([0.5], [0.5]),
    3: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
"""Mean and standard deviation of each channel, for pixels in [0, 1]: ImageNet's for RGB."""

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augment(config: Views, images: Tensor, size: int, draw: Draw) -> list[Tensor]:
    """Views of a batch: `count` global crops of side `size`, then `local_count` of side `local_side(size)`.

    Args:
        images: uint8, (B, C, S, S) with 1 or 3 channels, of any S.
        draw: the only source of randomness, on the images' device.

    Returns:
        One float32 tensor (B, C, side, side) a view, normalised by `MEAN_STD`.
    """
    pixels = images.float() / 255
    views = []
    for i, (blur, solarize) in enumerate(zip(config.probabilities("blur"), config.probabilities("solarize"), strict=True)):
        side, scale = (size, config.scale) if i < config.count else (config.local_side(size), config.local_scale)
        views.append(_view(config, pixels, side, scale, blur, solarize, draw))
    return views


def normalise(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1], (B, C, H, W), less the channels' mean, over their standard deviation."""
    mean, std = (torch.tensor(v, device=pixels.device).view(-1, 1, 1) for v in MEAN_STD[pixels.shape[1]])
    return (pixels - mean) / std


def resized(views: Tensor, size: int) -> Tensor:
    """Views (B, C, H, W) as an encoder of another image size takes them: (B, C, size, size), antialiased."""
    if views.shape[-1] == size:
        return views
    return interpolate(views, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _view(config: Views, pixels: Tensor, size: int, scale: tuple[float, float], blur: float, solarize: float, draw: Draw) -> Tensor:
    x = crop(pixels, *random_boxes(draw, pixels.shape[-1], scale, config.ratio), size, draw.chance(config.flip), _sigma(blur, size, draw))
    if config.rotation or config.shear:
        x = turned(x, draw.uniform(-config.rotation, config.rotation), draw.uniform(-config.shear, config.shear))
    if config.jitter or config.grey:
        x = _coloured(config, x, draw)
    if solarize:
        x = torch.where(draw.chance(solarize).view(-1, 1, 1, 1) & (x >= 0.5), 1 - x, x)
    if config.noise:
        x = x + config.noise * draw.normals(*x.shape[1:])
    return normalise(x)


def random_boxes(draw: Draw, side: int, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, width and height (B,) in pixels, of boxes inside a square of `side`.

    Args:
        scale: range of the box's share of the area, uniform.
        ratio: range of width over height, uniform in its logarithm within what fits.
    """
    share = draw.uniform(*scale)
    fits = -share.log()
    low, high = (torch.full_like(share, math.log(r)).clamp(-fits, fits) for r in ratio)
    half = draw.uniform(low, high) / 2
    width, height = side * share.sqrt() * half.exp(), side * share.sqrt() * (-half).exp()
    return draw.uniform() * (side - width), draw.uniform() * (side - height), width, height


def crop(
    pixels: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor, size: int, flip: Tensor | None = None, sigma: Tensor | None = None
) -> Tensor:
    """Boxes of images, resized with antialiasing to (B, C, size, size).

    Equals torchvision's `resized_crop(antialias=True)` for boxes with whole-numbered edges.

    Args:
        left, top, width, height: of each sample's box, (B,), in pixels.
        flip: which samples are mirrored, (B,).
        sigma: of a Gaussian blur of each sample, (B,), in pixels of the result; below 0.1 there is none.
    """
    samples, channels, rows, columns = pixels.shape
    across, down = resampling(left, width, columns, size), resampling(top, height, rows, size)
    if sigma is not None:
        kernel = _blurring(sigma, size)
        across, down = kernel @ across, kernel @ down
    if flip is not None:
        across = torch.where(flip.view(-1, 1, 1), across.flip(1), across)
    x = torch.bmm(pixels.reshape(samples, channels * rows, columns), across.mT)
    x = x.view(samples, channels, rows, size).transpose(1, 2).reshape(samples, rows, channels * size)
    return torch.bmm(down, x).view(samples, size, channels, size).transpose(1, 2).contiguous()


def resampling(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """Matrices (B, target, source) that resize the stretch [start, start + length) of `source` pixels to `target` pixels.

    A triangle filter, widened by the factor of a reduction. A pixel weighs by the share of it that lies in the stretch.
    """
    step = (length / target).view(-1, 1, 1)
    start, end = start.view(-1, 1, 1), (start + length).view(-1, 1, 1)
    pixel = torch.arange(source, device=length.device)
    centre = start + step * (torch.arange(target, device=length.device) + 0.5)[:, None]
    inside = (torch.minimum(pixel + 1, end) - torch.maximum(pixel, start)).clamp(0, 1)
    weight = (1 - (pixel + 0.5 - centre).abs() / step.clamp(min=1)).clamp(min=0) * inside
    return weight / weight.sum(-1, keepdim=True)


def _sigma(probability: float, size: int, draw: Draw) -> Tensor | None:
    """Standard deviations (B,) of the blur in pixels; None where nothing is blurred."""
    if not probability:
        return None
    sigma = draw.uniform(0.1, 2.0) * size / 224
    return torch.where(draw.chance(probability), sigma, 0.0)


def _blurring(sigma: Tensor, size: int) -> Tensor:
    """Matrices (B, size, size), each row a Gaussian around its own pixel."""
    place = torch.arange(size, device=sigma.device)
    weight = torch.exp(-((place - place[:, None]) ** 2) / (2 * sigma.clamp(min=0.01).view(-1, 1, 1) ** 2))
    return weight / weight.sum(-1, keepdim=True)


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


def _coloured(config: Views, x: Tensor, draw: Draw) -> Tensor:
    """Colour jitter and grey scale."""
    jittered = draw.chance(config.jitter)

    def factor(strength: float) -> Tensor:
        return torch.where(jittered, draw.uniform(max(0.0, 1 - strength), 1 + strength), 1.0)

    brightness, contrast = factor(config.brightness), factor(config.contrast)
    if x.shape[1] == 1:
        return recoloured(x, brightness, contrast)
    saturation, hue = factor(config.saturation), torch.where(jittered, draw.uniform(-config.hue, config.hue), 0.0)
    return recoloured(x, brightness, contrast, torch.where(draw.chance(config.grey), 0.0, saturation), hue)


def recoloured(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor | None = None, hue: Tensor | None = None) -> Tensor:
    """Images with their colours changed, clamped to [0, 1]; each factor is (B,).

    Args:
        brightness: factor of all channels; 1 changes nothing.
        contrast: factor of the distance from the image's mean grey; 1 changes nothing.
        saturation: factor of the distance from grey; 0 makes the image grey, 1 changes nothing.
        hue: turn of the colour plane, in full turns; 0 changes nothing.
    """
    gain = (brightness * contrast).view(-1, 1, 1)
    flat = x.flatten(2)
    if saturation is None or hue is None:
        offset = ((1 - contrast) * brightness).view(-1, 1, 1) * flat.mean(2, keepdim=True)
        return (offset + gain * flat).clamp_(0, 1).view(x.shape)
    luma, yiq = torch.tensor(LUMA, device=x.device), torch.tensor(YIQ, device=x.device)
    offset = ((1 - contrast) * brightness * (flat.mean(2) @ luma)).view(-1, 1, 1)
    angle, zero, one = 2 * math.pi * hue, torch.zeros_like(hue), torch.ones_like(hue)
    cos, sin = saturation * angle.cos(), saturation * angle.sin()
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    matrix = gain * (yiq.inverse() @ turn @ yiq)
    return (offset + torch.bmm(matrix, flat)).clamp_(0, 1).view(x.shape)
