"""Network: a teacher or a student as a distillation sees it, and what it says of a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ssl_tasks.nn import taps as taps_of
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_map, grid_of

PLACES = ""
"""Stands for the places that come out of an encoder."""


@dataclass(frozen=True)
class Seen:
    """What a network says of the global views, joined one after the other: n = V x B rows.

    Attributes:
        pooled: (n, dim), one feature an image.
        places: (n, N, width), one a patch or place, row by row; None where nobody asked for them.
        taps: feature maps (n, C, H, W) of inner layers, by the paths of their modules.
        logits: (n, classes), of a classifier.
        local: (L x B, dim), pooled features of the local crops; None where there are none, as for a teacher.
    """

    pooled: Tensor
    places: Tensor | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    local: Tensor | None = None

    def map(self, layer: str = PLACES) -> Tensor:
        """The feature map (n, C, H, W) of a layer that is looked at, or of the places."""
        if layer != PLACES:
            return self.taps[layer]
        assert self.places is not None
        return as_map(self.places)


@dataclass(frozen=True)
class Shapes:
    """The sizes of what a network says: see `Seen`. `grid` is rows and columns of places; (0, 0) where nobody asked for them."""

    dim: int
    width: int
    grid: tuple[int, int]
    taps: dict[str, tuple[int, int, int]]
    classes: int
    image_size: int

    def map(self, layer: str = PLACES) -> tuple[int, int, int]:
        """Channels, rows and columns of a layer that is looked at, or of the places."""
        return (self.width, *self.grid) if layer == PLACES else self.taps[layer]


class Network(nn.Module):
    """An encoder, a classifier over it where there is one, and inner layers that are looked at.

    Attributes:
        classifier: None for an encoder alone.
        taps: layers whose maps are wanted; see `ssl_tasks.nn.taps`.
    """

    def __init__(self, encoder: TimmEncoder, classifier: nn.Module | None = None, taps: Iterable[str] = (), places: bool = False) -> None:
        """Raises UserError where a path names no module."""
        super().__init__()
        self.encoder, self.classifier = encoder, classifier
        self.taps, self.places = tuple(dict.fromkeys(taps)), places
        taps_of.check(encoder, self.taps)
        if self.taps:
            encoder.run_whole_blocks()

    def forward(self, views: Sequence[Tensor], local: Sequence[Tensor] = (), mask: Tensor | None = None, mask_token: Tensor | None = None) -> Seen:
        """What it says of global views (B, C, S, S) each, and of local crops.

        Args:
            mask: (V x B, N), true where a patch of the global views is replaced by `mask_token` (width,).

        Raises:
            UserError: where a layer that is looked at gives no feature map.
        """
        joined = torch.cat(list(views))
        with taps_of.looked_at(self.encoder, self.taps) as outputs:
            if self.places or mask is not None:
                features = self.encoder.tokens(joined, mask, mask_token)
                pooled, places = features.pooled, features.patches
            else:
                pooled, places = self.encoder(joined), None
        maps = taps_of.maps(self.encoder, outputs, joined)
        logits = None if self.classifier is None else self.classifier(pooled)
        return Seen(pooled, places, maps, logits, self.encoder(torch.cat(list(local))) if local else None)

    @torch.no_grad()
    def shapes(self) -> Shapes:
        """Found by looking at a black image, in eval mode."""
        config, training = self.encoder.config, self.training
        device = next(self.parameters()).device
        seen = self.eval()([torch.zeros(2, config.channels, config.image_size, config.image_size, device=device)])
        self.train(training)
        grid = (0, 0) if seen.places is None else grid_of(seen.places.shape[1])
        taps = {path: (int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for path, m in seen.taps.items()}
        width = self.encoder.width if seen.places is None else int(seen.places.shape[2])
        return Shapes(self.encoder.dim, width, grid, taps, 0 if seen.logits is None else int(seen.logits.shape[1]), config.image_size)

    def hold_still_but(self, layers: Iterable[str]) -> None:
        """Train nothing that the maps of these layers do not depend on, such as what lies behind the last of them: it would get no gradient."""
        config, training = self.encoder.config, self.training
        parameters = [p for p in self.parameters() if p.requires_grad]
        with torch.enable_grad():
            seen = self.eval()([torch.zeros(1, config.channels, config.image_size, config.image_size, device=parameters[0].device)])
            reached = torch.autograd.grad([seen.map(layer).sum() for layer in layers], parameters, allow_unused=True)
        self.train(training)
        for parameter, gradient in zip(parameters, reached, strict=True):
            parameter.requires_grad_(gradient is not None)
