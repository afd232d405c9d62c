"""Tiles that go through an encoder, each on its own."""

import torch
from torch import Tensor

from ssl_tasks.nn.encoder import TimmEncoder


def side_for(encoder: TimmEncoder, side: int) -> int:
    """The side at which an encoder sees tiles of `side`, or 0 where they are smaller than half a patch.

    A ViT: the nearest multiple of its patch. Any other: `side` itself if it takes images of that size, else its own image size.
    """
    if encoder.is_vit:
        return round(side / encoder.patch) * encoder.patch
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(next(encoder.parameters()).new_zeros(1, encoder.config.channels, side, side))
    except (AssertionError, RuntimeError):
        return encoder.config.image_size
    finally:
        encoder.train(training)
    return side


def each_alone(encoder: TimmEncoder, tiles: Tensor) -> Tensor:
    """Features (B, T, dim) of tiles (B, T, C, s, s)."""
    features: Tensor = encoder(tiles.flatten(0, 1)).unflatten(0, tiles.shape[:2])
    return features
