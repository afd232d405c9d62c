"""Equivariant Contrastive Learning (E-SSL). Dangovski, Jing, Loh, Han, Srivastava, Cheung, Agrawal, Soljacic, 2021.
https://arxiv.org/abs/2111.00899

Features that are the same whatever was done to an image lose what some changes tell of it. So SimCLR makes them blind to crops and
colours, and beside it a predictor makes them tell by which quarter turn a small crop was rotated.

Symbols: z, the projection; p, the predictor of turns; lambda, the weight of its loss; tau, the temperature.

Differs from the paper:
- Crops that are turned are changed in colour as the others are.
- Projector and predictor have batch norm; on CIFAR-10 the authors' predictor has layer norm.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import ESSL as ESSLConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.turns import TURNS, quarter_turns, turns_of
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.contrastive import nt_xent
from ssl_tasks.losses.scores import cross_entropy
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class ESSL(Method):
    """Encoder, projector of SimCLR, and predictor of turns."""

    def __init__(self, config: ESSLConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.output, last_norm=True)
        self.predictor = mlp(encoder.dim, config.hidden, config.hidden, TURNS, last_bias=True)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z, z_prime = self.projector(self.encoder(torch.cat(views[:2]))).chunk(2)
        contrast = nt_xent(z, z_prime, self.config.temperature, (gather(z), gather(z_prime)), rank() * len(z))
        small = torch.cat(views[2:] or views[:1])
        turns = cross_entropy(self.predictor(self.encoder(quarter_turns(small))), turns_of(small))
        return {"nt_xent": contrast, "rotation": self.config.rotation * turns}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are: see `measures.embedding`."""
        return embedding(self.projector(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
