"""Eight clusters of points, on which a method learns or collapses in a second: a method sees points as it sees images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ssl_tasks.measures import effective_rank
from ssl_tasks.method import Method
from ssl_tasks.nn.vit import Features

DIM, FEATURES, BATCH = 10, 16, 64


class Points(nn.Module):
    """An encoder of points (B, DIM) in the place of one of images."""

    dim = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(DIM, 64), nn.ReLU(), nn.Linear(64, FEATURES))

    def forward(self, points: Tensor) -> Tensor:
        features: Tensor = self.layers(points)
        return features

    def multi_crop(self, crops: list[Tensor]) -> list[Features]:
        """A point has no patches: it stands for them itself."""
        return [Features(self(crop), crop[:, None]) for crop in crops]


def on_points(method: Callable[..., Method], config: Any) -> Method:
    """A method around an encoder of points."""
    torch.manual_seed(0)
    return method(config, Points()).train()


def two_views(generator: torch.Generator) -> list[Tensor]:
    """Two noisy looks (BATCH, DIM) at points of the eight clusters, whose middles are the same at each call."""
    middles = torch.randn(8, DIM, generator=torch.Generator().manual_seed(0)) * 2
    points = middles[torch.randint(8, (BATCH,), generator=generator)] + 0.5 * torch.randn(BATCH, DIM, generator=generator)
    return [points + 0.5 * torch.randn(BATCH, DIM, generator=generator) for _ in range(2)]


def learned(method: Method, steps: int = 400) -> list[float]:
    """The losses of so many steps of Adam, with all that the training loop calls."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 3e-3)
    losses = []
    for step in range(steps):
        loss = torch.stack(list(method(two_views(generator), step / steps).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # of torch
        method.before_step(step / steps)
        optimizer.step()
        method.after_step(step / steps)
        losses.append(loss.item())
    return losses


@torch.no_grad()
def centred_rank(network: nn.Module) -> float:
    """Effective rank, around their mean, of what a network makes of points."""
    made = network(torch.cat([two_views(torch.Generator().manual_seed(seed))[0] for seed in range(2, 6)]))
    return effective_rank(made - made.mean(dim=0))
