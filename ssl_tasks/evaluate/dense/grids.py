"""Features of an image's patches or places as a grid, whatever its size and shape."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from schemas.errors import UserError
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.encoder import TimmEncoder


def places(encoder: TimmEncoder, images: Tensor) -> Tensor:
    """One feature a patch of a ViT, or a place of any other network, (B, D, h, w), of normalised images (B, C, H, W).

    Raises:
        UserError: where the encoder takes no images of that size, or gives no grid of features.
    """
    height, width = images.shape[-2:]
    with reading(encoder, images):
        features = encoder.tokens(images).patches
    count = features.shape[1]
    rows = max(1, round((count * height / width) ** 0.5))
    if count % rows:
        raise UserError(f"encoder '{encoder.config.name}' gives {count} features of an image of {width} x {height} pixels, which are no grid")
    return features.transpose(1, 2).reshape(len(images), -1, rows, count // rows)


@contextmanager
def reading(encoder: TimmEncoder, images: Tensor) -> Iterator[None]:
    """Say in a line that an encoder does not take images (B, C, H, W) of that size, as networks of windows do not."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        height, width, why = *images.shape[-2:], str(error).partition("\n")[0]
        raise UserError(f"encoder '{encoder.config.name}' cannot read images of {width} x {height} pixels: {why}") from error


def stride(encoder: TimmEncoder) -> int:
    """Pixels from one patch or place to the next."""
    if encoder.is_vit:
        return encoder.patch
    side = encoder.config.image_size
    with torch.inference_mode():
        blank = torch.zeros(1, encoder.config.channels, side, side, device=next(encoder.parameters()).device)
        return power_of_two(side / places(encoder, blank).shape[-1])


def power_of_two(number: float) -> int:
    """The nearest one, at least 1: strides of networks that halve their maps, whatever they round up to."""
    return int(2 ** max(0, round(math.log2(number))))


@torch.inference_mode()
def grid(subject: Subject, image: NDArray[np.uint8], step: int, size: int | None) -> Tensor:
    """Features of unit length, (D, h, w), of an image (C, H, W), resized whole to sides that are multiples of `step`.

    Args:
        step: the encoder's stride.
        size: shorter side to which it is resized first; None for its own.

    Raises:
        UserError: where the encoder takes no images of that size.
    """
    assert subject.artifact
    scale = 1.0 if size is None else size / min(image.shape[1:])
    height, width = (step * max(1, round(side * scale / step)) for side in image.shape[1:])
    pixels = torch.from_numpy(image[None].copy()).to(subject.world.device).float() / 255
    if pixels.shape[-2:] != (height, width):
        pixels = interpolate(pixels, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (subject.artifact.mean, subject.artifact.std))
    return torch.nn.functional.normalize(places(subject.encoder, (pixels - mean) / std)[0].float(), dim=0)
