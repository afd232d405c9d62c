"""What any model must be better than: the raw pixels, and the same network before any training."""

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.encoders import Encoder
from ssl_tasks.data.files import Files
from ssl_tasks.nn.encoder import TimmEncoder

LARGEST = 32
"""Side in pixels above which raw pixels are shrunk to it: 3,072 numbers an RGB image."""


def pixels(images: NDArray[np.uint8] | Files) -> NDArray[np.float32]:
    """Every image of (N, C, S, S) as the vector of its values in [0, 1], (N, C * S * S): neither centred nor normalised."""
    values: NDArray[np.float32] = images[:].reshape(len(images), -1).astype(np.float32)
    return values / np.float32(255)


def untrained(config: Encoder, seed: int) -> TimmEncoder:
    """The encoder as it is initialised under `seed`, whatever was drawn before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TimmEncoder(config)
