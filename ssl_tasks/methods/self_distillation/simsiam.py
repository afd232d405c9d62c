"""Exploring Simple Siamese Representation Learning (SimSiam). Chen, He, 2020.
https://arxiv.org/abs/2011.10566

One network sees both views of an image; a predictor on one view tells the projection of the other, which is taken as given.
Without the predictor, or with a gradient through what is predicted, all images get the same projection.

Symbols: f, the encoder and projector; h, the predictor; z = f(x); p = h(z).

Differs from the paper:
- The predictor's learning rate falls with the others'; the authors keep it constant, which is worth 0.4 points (table 1: 67.7 to 68.1).
- The loss is 1 - cos in the place of -cos: the same gradient, and 0 in the place of -1 at its best.
- Both views pass the network as one batch, so batch norm sees them together; the authors pass them one after the other.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import SimSiam as SimSiamConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.prediction import simsiam
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class SimSiam(Method):
    """Encoder, projector and a predictor with a bottleneck; the encoder is exported."""

    def __init__(self, config: SimSiamConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.hidden, config.output, last_norm=True, last_affine=False)
        self.predictor: nn.Module = mlp(config.output, config.bottleneck, config.output, last_bias=True)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        both = self.projector(self.encoder(torch.cat(views)))
        z, z_prime = both.chunk(2)
        p, p_prime = self.predictor(both).chunk(2)
        return {"simsiam": (simsiam(p, z_prime) + simsiam(p_prime, z)) / 2}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are: see `measures.embedding`; the batch norm at their end hides a collapse from all but their rank."""
        return embedding(self.projector(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
