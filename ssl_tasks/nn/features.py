"""Frozen features of many images, a batch at a time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ssl_tasks.data.files import Files
from ssl_tasks.data.images import Bands, Unreadable
from ssl_tasks.data.store import centre_square, pixels
from ssl_tasks.nn.encoder import TimmEncoder


@torch.inference_mode()
def features(
    encoder: TimmEncoder,
    images: NDArray[np.uint8] | Files,
    mean: list[float],
    std: list[float],
    batch_size: int = 512,
    device: str | torch.device = "cpu",
    into: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Pooled features of every image, in order; the encoder runs in eval mode and is left in the mode that it was in.

    Args:
        encoder: fed squares of `encoder.config.image_size`.
        images: (N, C, S, S), such as a memory-mapped store; taken one batch at a time.
        mean: of each channel, for pixels in [0, 1].
        std: likewise.
        into: (N, dim), such as a memory-mapped file that they are written to.

    Returns:
        (N, dim), not normalised.
    """
    training = encoder.training
    encoder.to(device).eval()
    rows = np.empty((len(images), encoder.dim), np.float32) if into is None else into
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(_read, images, 0, batch_size)
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(following.result()).to(device)
            following = reader.submit(_read, images, start + batch_size, batch_size)  # while the network is at work
            rows[start : start + batch_size] = encoder(prepare(batch, encoder.config.image_size, mean, std)).float().cpu().numpy()
    encoder.train(training)
    return rows


def _read(images: NDArray[np.uint8] | Files, start: int, count: int) -> NDArray[np.uint8]:
    return np.array(images[start : start + count])


def prepare(batch: Tensor, size: int, mean: list[float], std: list[float]) -> Tensor:
    """Squares of `size` as an encoder is fed them in evaluation: resized to 256/224 of it, centre-cropped, normalised.

    Images that are no larger than `size` are resized to it whole; those between `size` and 256/224 of it are only cropped.

    Args:
        batch: uint8, (B, C, S, S).

    Returns:
        float32, (B, C, size, size).
    """
    pixels = batch.float() / 255
    side, resized = pixels.shape[-1], round(size * 256 / 224)
    if side < size or side > resized:
        side = size if side < size else resized
        pixels = interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    low = (side - size) // 2
    pixels = pixels[..., low : low + size, low : low + size]
    return (pixels - pixels.new_tensor(mean)[:, None, None]) / pixels.new_tensor(std)[:, None, None]


def prepared(picture: Image.Image | Bands, channels: int, size: int, mean: list[float], std: list[float]) -> Tensor:
    """One picture of any size as an encoder is fed it in evaluation, (1, C, size, size); grey becomes RGB and RGB grey.

    Raises:
        Unreadable: where an encoder of other than 1 or 3 channels is given a picture of another number.
    """
    square = centre_square(picture, min(round(size * 256 / 224), *picture.size))
    if channels in (1, 3):
        array = pixels(square, channels)
    elif isinstance(square, Bands) and len(square.bands) == channels:
        array = np.stack([np.asarray(band) for band in square.bands])
    else:
        raise Unreadable(f"not of {channels} channels")
    return prepare(torch.from_numpy(array[None].copy()), size, mean, std)
