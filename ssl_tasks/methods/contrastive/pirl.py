"""Self-Supervised Learning of Pretext-Invariant Representations (PIRL). Misra, van der Maaten, 2019. https://arxiv.org/abs/1912.01991

A pretext task makes the features tell how an image was changed; here they shall not. An image, and a jigsaw of its tiles in random order,
are both to be found by what a memory bank holds of that image, among what it holds of others.

Symbols: I, an image; I^t, its tiles shuffled; f and g, encoder and head of either, of length 1; m_I, what the bank holds of I, a moving
average of f; lambda, the weight of the loss between g and m_I, that between f and m_I has the rest (equation 5); tau, the temperature.

Differs from the paper:
- Both views have the same scale and colours; the paper takes 8 to 100% of the area for I and 60 to 100% for I^t, and changes the
  colours of each tile on its own.
- Cells and tiles stand to the crop as the paper's 85 and 64 px to 255; a ViT sees tiles at the nearest multiple of its patch.
- Negatives are as many as there are other images where these are fewer.
- Equation 3 put into 4 would sum, for the h of a negative, over its own similarities to other negatives; here both h have the same sum.
  It gets no gradient, as it stands for the normaliser of noise-contrastive estimation, which in the authors' code
  (https://github.com/facebookresearch/vissl) is a constant; see `ssl_tasks.losses.nce`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import PIRL as PIRLConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.tiles import CELLS, Tiles
from ssl_tasks.data.views import augment
from ssl_tasks.losses.nce import pirl_nce
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.bank import Bank
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.tiles import each_alone, side_for


class PIRL(Method):
    """Encoder, heads of images and of tiles, and the bank.

    Raises:
        UserError: where crops are too small for their tiles.
    """

    def __init__(self, config: PIRLConfig, encoder: TimmEncoder, images: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.register_buffer("images", torch.tensor(images))
        self.tiles = Tiles.of(config.kind, encoder.config.image_size, lambda side: side_for(encoder, side), config.gap)
        self.head = nn.Linear(encoder.dim, config.output)
        self.branch = nn.Linear(encoder.dim, config.output)
        self.together = nn.Linear(CELLS * config.output, config.output)
        self.bank = Bank(images, config.output)
        self._seen: tuple[Tensor, Tensor] | None = None  # of the step that is under way, so no part of the state dict

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """Two crops of each image, tiles (B, 9, C, s, s) of the second in random order, its number (B,), and those of its negatives (B, K)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        order = draw.uniforms(CELLS).argsort(dim=1)
        tiles = self.tiles.cut(crops[1], self.tiles.corners(draw).gather(1, order[..., None].expand(-1, -1, 2)))
        return [*crops, tiles, draw.rows, draw.others(self.config.negatives, len(self.bank.rows))]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, _, tiles, rows, negatives = views
        f = normalize(self.head(self.encoder(images)), dim=1)
        g = normalize(self.together(self.branch(each_alone(self.encoder, tiles)).flatten(1)), dim=1)
        if self.training:
            self._seen = rows, f.detach()
        weight = self.config.jigsaw
        return {"jigsaw": weight * self._nce(g, rows, negatives), "image": (1 - weight) * self._nce(f, rows, negatives)}

    def _nce(self, anchors: Tensor, rows: Tensor, negatives: Tensor) -> Tensor:
        cosines = self.bank.similarities(anchors, torch.cat([rows[:, None], negatives], dim=1))
        return pirl_nce(cosines[:, 0], cosines[:, 1:], self.config.temperature)

    def after_step(self, progress: float) -> None:
        """Move what is remembered of the images of this step."""
        if self._seen:
            self.bank.move(*self._seen, self.config.bank_momentum)
            self._seen = None

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the embeddings of images are: see `measures.embedding`."""
        return embedding(self.head(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
