"""Patches of images as vectors of their pixels, and back. Shapes: B images, N patches row by row, p pixels along a patch's side."""

from torch import Tensor


def patchify(images: Tensor, side: int) -> Tensor:
    """Patches (B, N, p * p * C) of images (B, C, H, W): pixels row by row, a pixel's channels together."""
    samples, channels, height, width = images.shape
    cut = images.view(samples, channels, height // side, side, width // side, side)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, side: int, channels: int) -> Tensor:
    """The square images (B, C, H, W) whose patches these are."""
    grid = round(patches.shape[1] ** 0.5)
    cut = patches.view(len(patches), grid, grid, side, side, channels)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), channels, grid * side, grid * side)
