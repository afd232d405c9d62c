"""Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles (context-free network, CFN). Noroozi, Favaro, 2016.
https://arxiv.org/abs/1603.09246

Nine tiles of an image are shuffled by one of a fixed set of permutations. Each goes through the encoder alone, and only a head that
gets all nine features tells which permutation it was: what is learned is what parts look like, not how their edges fit.

Symbols: S, the permutation, of a set in which any two differ in as many places as can be.

Differs from the paper:
- The set is chosen from the identity on, first by the distance to the nearest permutation chosen, then by the average: of 1,000 any two
  differ in 5 places, where the paper's greedy choice by the average leaves some that differ in 2. On average they differ in 8, as there.
- The encoder is any, on its own pooled features; the paper's is AlexNet up to fc6 with a stride of 2 in its first layer.
- Cells and tiles stand to the crop as the paper's 75 and 64 px to 225; a ViT sees tiles at the nearest multiple of its patch.
- Head with batch norm and without dropout. Channels are not jittered against each other in space.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from schemas.methods import Jigsaw as JigsawConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.permutations import far_permutations
from ssl_tasks.data.tiles import CELLS, Tiles, standardised
from ssl_tasks.data.views import augment
from ssl_tasks.losses.scores import cross_entropy
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.tiles import each_alone, side_for


class Jigsaw(Method):
    """Encoder of each tile, and the head in which the nine branches meet.

    Raises:
        UserError: where crops are too small for their tiles.
    """

    orders: Tensor

    def __init__(self, config: JigsawConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.tiles = Tiles.of(config.kind, encoder.config.image_size, lambda side: side_for(encoder, side), config.gap)
        self.register_buffer("orders", far_permutations(config.permutations, CELLS))
        self.branch = nn.Sequential(nn.Linear(encoder.dim, config.branch), nn.ReLU())
        self.head = mlp(CELLS * config.branch, config.hidden, config.permutations, last_bias=True)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop of each image, its tiles (B, 9, C, s, s) as S has them, and the number of S (B,)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        number = (draw.uniforms() * len(self.orders)).long()
        corners = self.tiles.corners(draw).gather(1, self.orders[number][..., None].expand(-1, -1, 2))
        return [*crops, standardised(self.tiles.cut(crops[0], corners)), number]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        _, tiles, number = views
        return {"permutation": cross_entropy(self.told(tiles), number)}

    def told(self, tiles: Tensor) -> Tensor:
        """Logits (B, permutations)."""
        logits: Tensor = self.head(self.branch(each_alone(self.encoder, tiles)).flatten(1))
        return logits

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """`accuracy`: share of the permutations that are told; chance is one over their number."""
        _, tiles, number = views
        return {"accuracy": (self.told(tiles).argmax(dim=1) == number).float().mean().item()}

    def exported(self) -> nn.Module:
        return self.encoder
