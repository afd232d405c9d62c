"""Spherical k-means of unit vectors, on the device they lie on: what methods cluster the images with that they train on.

The same result on every process that has the same points: nothing is drawn from PyTorch's own random state, and sums are products of
matrices, whose order is fixed. `ssl_tasks.curate.kmeans` clusters more points faster, on a CPU, without the unit sphere.

Shapes: N points, K clusters, D dimensions.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from schemas.errors import UserError
from ssl_tasks.losses.precision import full_precision

NUMBERS = 2**24
"""Of the similarities of points to centroids, how many are held at a time: 64 MiB in float32."""


@full_precision
@torch.no_grad()
def kmeans(points_ND: Tensor, count: int, seed: int, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations from centroids drawn as in k-means++; a cluster that is empty starts again from the point farthest from its own.

    Args:
        points_ND: of length 1, at least `count` of them.
        seed: of the first centroids.

    Returns:
        Centroids (K, D) of length 1, and of each point the nearest one (N,).
    """
    centroids = first(points_ND, count, seed)
    nearest, cosine = assigned(points_ND, centroids)
    for _ in range(iterations):
        centroids = updated(points_ND, nearest, cosine, centroids)
        before = nearest
        nearest, cosine = assigned(points_ND, centroids)
        if torch.equal(nearest, before):
            break
    return centroids, nearest


def first(points_ND: Tensor, count: int, seed: int) -> Tensor:
    """First centroids (K, D): points drawn in proportion to their squared distance to the nearest one drawn before, some at a time."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(points_ND), (1,), generator=generator)
    nearest = assigned(points_ND, points_ND[chosen])[1]
    while len(chosen) < count:
        total = (1 - nearest).clamp(min=0).double().cpu().cumsum(dim=0)
        new = min(max(1, len(chosen) // 8), count - len(chosen))
        drawn = torch.searchsorted(total, torch.rand(new, generator=generator, dtype=total.dtype) * total[-1], right=True).clamp(max=len(total) - 1)
        nearest = torch.maximum(nearest, assigned(points_ND, points_ND[drawn])[1])
        chosen = torch.cat([chosen, drawn])
    return points_ND[chosen]


def assigned(points_ND: Tensor, centroids_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Of each point the nearest centroid (N,), and the cosine with it (N,)."""
    some = [(part @ centroids_KD.T).max(dim=1) for part in torch.split(points_ND, max(1, NUMBERS // len(centroids_KD)))]
    return torch.cat([found.indices for found in some]), torch.cat([found.values for found in some])


def updated(points_ND: Tensor, nearest_N: Tensor, cosine_N: Tensor, centroids_KD: Tensor) -> Tensor:
    """The direction of the sum of each cluster's points (K, D); of an empty one, a point that is far from its centroid."""
    count = len(centroids_KD)
    some = max(1, NUMBERS // count)
    sums = torch.zeros_like(centroids_KD)
    for part, of in zip(torch.split(points_ND, some), torch.split(nearest_N, some), strict=True):
        sums += one_hot(of, count).to(part.dtype).T @ part
    empty = (torch.bincount(nearest_N, minlength=count) == 0).nonzero()[:, 0]
    sums[empty] = points_ND[cosine_N.argsort(stable=True)[: len(empty)]]
    return normalize(sums, dim=1)


def check_enough(images: int, clusters: int, key: str) -> None:
    """Clusters must be fewer than the images that they are of.

    Raises:
        UserError: where they are not. `key` is where their number is stated.
    """
    if clusters >= images:
        raise UserError(f"{key}: {clusters} clusters of {images} images to train on: set it lower, such as to {max(1, images // 20)}, or take more images")
