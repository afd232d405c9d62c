"""Which places of two views belong together. Shapes: B images, N and M places of one view and of the other, C channels, K pairs."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def most_alike(places_BNC: Tensor, others_BMC: Tensor) -> Tensor:
    """The number (B, N) of the other view's place whose feature has the highest cosine with that of each place."""
    return (normalize(places_BNC, dim=2) @ normalize(others_BMC, dim=2).mT).argmax(dim=2)


@torch.no_grad()
def nearest_pairs(places_BNC: Tensor, others_BMC: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each place with the nearest one of the other view, and of these pairs the `count` nearest, or all where there are fewer.

    Returns:
        Numbers (B, K) of the places and of the others, the nearest pair first.
    """
    exact = torch.promote_types(places_BNC.dtype, torch.float32)
    distances, nearest = torch.cdist(places_BNC.to(exact), others_BMC.to(exact)).min(dim=2)
    chosen = distances.topk(min(count, distances.shape[1]), largest=False).indices
    return chosen, nearest.gather(1, chosen)


def taken(places_BNC: Tensor, numbers_BK: Tensor) -> Tensor:
    """The places (B, K, C) of these numbers."""
    return places_BNC.gather(1, numbers_BK[..., None].expand(-1, -1, places_BNC.shape[2]))


def centres(boxes_B5: Tensor, rows: int, columns: int) -> Tensor:
    """Where in the image the middles of a crop's places lie, row by row: (B, N, 2), x and y.

    Args:
        boxes_B5: left, top, width and height of the crop's box in the image, and 1 where it was mirrored.
    """
    left, top, width, height, mirrored = boxes_B5[..., None].unbind(1)
    across = (torch.arange(columns, device=left.device) + 0.5) / columns
    down = (torch.arange(rows, device=left.device) + 0.5) / rows
    x = left + width * torch.where(mirrored > 0, 1 - across, across)
    y = top + height * down
    return torch.stack([x[:, None].expand(-1, rows, -1), y[:, :, None].expand(-1, -1, columns)], dim=-1).flatten(1, 2)
