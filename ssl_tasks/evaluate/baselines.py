"""What any model must be better than: the raw pixels, and the same network before any training."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.encoders import Encoder
from ssl_tasks.data.store import open_store
from ssl_tasks.evaluate.split import Split
from ssl_tasks.nn.encoder import TimmEncoder

LARGEST = 32
"""Side in pixels above which raw pixels are shrunk to it: 3,072 numbers an RGB image."""


def pixels(parts: Split, workspace: Path, side: int, channels: int, cache: Path) -> NDArray[np.float32]:
    """Every image as the vector of its values in [0, 1], (N, C * S * S): neither centred nor normalised.

    Args:
        side: at which the models' images are stored; S is the smaller of it and `LARGEST`.
    """
    images = open_store(parts.table, workspace, min(side, LARGEST), channels, cache)
    values: NDArray[np.float32] = images.reshape(len(images), -1).astype(np.float32)
    return values / np.float32(255)


def untrained(config: Encoder, seed: int) -> TimmEncoder:
    """The encoder as it is initialised under `seed`, whatever was drawn before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TimmEncoder(config)
