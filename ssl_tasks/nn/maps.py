"""Feature maps and the places in them. Shapes: B images, C channels, H rows and W columns, N = H x W places, row by row."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def grid_of(places: int) -> tuple[int, int]:
    """Rows and columns of so many places: a square, or one row where they fill none."""
    side = round(places**0.5)
    return (side, side) if side * side == places else (1, places)


def as_map(places: Tensor) -> Tensor:
    """The map (B, C, H, W) of places (B, N, C)."""
    return places.mT.reshape(len(places), places.shape[2], *grid_of(places.shape[1]))


def as_places(feature_map: Tensor) -> Tensor:
    """The places (B, N, C) of a map (B, C, H, W)."""
    return feature_map.flatten(2).mT


def resampled(feature_map: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map on another grid, (B, C, *grid): bilinear, and where it shrinks every place counts. As it is where the grid is its own."""
    if feature_map.shape[-2:] == torch.Size(grid):
        return feature_map
    exact = feature_map if feature_map.dtype == torch.float64 else feature_map.float()
    return interpolate(exact, size=grid, mode="bilinear", antialias=True)
