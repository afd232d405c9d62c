"""Unsupervised Visual Representation Learning by Context Prediction. Doersch, Gupta, Efros, 2015. https://arxiv.org/abs/1505.05192

Two neighbouring patches of an image go through the same encoder, and from both features a head tells on which of eight sides the second
lies. It is to be told from what is seen, so there is a gap between patches, their places jitter, and colours are dropped.

Symbols: X, the two patches; Y, the side on which the second lies, of eight, cell by cell around the middle.

Differs from the paper:
- Patches are of a crop's 3 x 3 cells: the middle one and a neighbour. Patch, gap and jitter stand to each other as the paper's 96, 48 and
  7 px do, so that a crop of 224 px has patches of 48 or 50 px; a ViT sees them at the nearest multiple of its own patch.
- Against chromatic aberration, by which a patch tells where in the image it lies, the paper either drops two of three colours or
  projects away what is between green and magenta. Here two are dropped: nothing of aberration is left, and one setting fewer.
- Patches are not shrunk and enlarged again at random, which makes for robustness to pixelation.
- The head has batch norm with gain and bias behind its hidden layer alone; the paper's fc6 to fc8 have it without, and fc6 is a part of
  the branches, which here are the encoder.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import RelativePatch as RelativePatchConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.tiles import CELLS, Tiles
from ssl_tasks.data.views import augment
from ssl_tasks.losses.scores import cross_entropy
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.tiles import each_alone, side_for

SIDES = CELLS - 1
MIDDLE = CELLS // 2


class RelativePatch(Method):
    """Encoder of both patches, and the head that compares them.

    Raises:
        UserError: where crops are too small for their tiles.
    """

    def __init__(self, config: RelativePatchConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size = encoder.config.image_size
        self.tiles = Tiles.of(config.kind, size, lambda side: side_for(encoder, side), config.gap, config.jitter)
        self.head = mlp(2 * encoder.dim, config.hidden, SIDES, last_bias=True)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop of each image, its two patches (B, 2, C, s, s), and Y (B,)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        side = (draw.uniforms() * SIDES).long()
        cells = torch.stack([torch.full_like(side, MIDDLE), side + (side >= MIDDLE)], dim=1)
        corners = self.tiles.corners(draw).gather(1, cells[..., None].expand(-1, -1, 2))
        patches = self.tiles.cut(crops[0], corners)
        channels = patches.shape[2]
        kept, noise = (draw.uniforms(2) * channels).long(), draw.normals(*patches.shape[1:])
        return [*crops, one_colour(patches, kept, noise), side]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        _, patches, side = views
        return {"side": cross_entropy(self.told(patches), side)}

    def told(self, patches: Tensor) -> Tensor:
        """Logits (B, 8) of the sides."""
        logits: Tensor = self.head(each_alone(self.encoder, patches).flatten(1))
        return logits

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """`accuracy`: share of the sides that are told; 1/8 is chance."""
        _, patches, side = views
        return {"accuracy": (self.told(patches).argmax(dim=1) == side).float().mean().item()}

    def exported(self) -> nn.Module:
        return self.encoder


def one_colour(patches: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
    """Patches (B, T, C, s, s) with the channel `kept` (B, T) as it is, and in the others noise of a hundredth of its spread."""
    channel = torch.arange(patches.shape[2], device=patches.device)
    is_kept = (channel == kept[..., None])[..., None, None]
    own = torch.where(is_kept, patches, 0.0).sum(dim=2, keepdim=True)
    return torch.where(is_kept, patches, noise * own.std(dim=(-2, -1), keepdim=True) / 100)
