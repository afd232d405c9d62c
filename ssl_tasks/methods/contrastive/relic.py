"""Representation Learning via Invariant Causal Mechanisms (ReLIC). Mitrovic, McWilliams, Walker, Buesing, Blundell, 2020.
https://arxiv.org/abs/2010.07922

An online network must find, from one view of an image, what a target network makes of the other view among all images of the batch;
and which other images a view resembles must not hang on how it was made: both views' distributions over the batch are to be the same.

Symbols: z = g(f(x)), an embedding of the online network; t, one of the target network, its moving average; p(z; t), the softmax of
cosine similarities of z with the t of all images; tau, its temperature; beta, the weight of the divergence.

Differs from the paper:
- The divergence is that of whole distributions, KL(p(z; t') || sg p(z'; t)), see `ssl_tasks.losses.invariance`; of the positive's entry
  alone it would be contrast once more.
- Losses are a mean over both directions and all images, where the paper sums over images.
- Heads have batch norm after their hidden layers, and the momentum rises to 1, as BYOL's.
- Both views pass the network as one batch, so batch norm sees them together.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import ReLIC as ReLICConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.invariance import beliefs, contrast, invariance
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.schedules import cosine


class ReLIC(Method):
    """Online encoder and head, and their moving averages, the target. The online encoder is exported."""

    def __init__(self, config: ReLICConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = mlp(encoder.dim, *(config.hidden // 2**layer for layer in range(4)), config.output, last_bias=True)
        self.target_encoder, self.target_head = (Teacher(part, batch_statistics=True) for part in (self.encoder, self.head))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        both = torch.cat(views)
        z, z_prime = self.head(self.encoder(both)).chunk(2)
        t, t_prime = (gather(targets) for targets in self.target_head(self.target_encoder(both)).chunk(2))
        p, p_prime = beliefs(z, t_prime, self.config.temperature), beliefs(z_prime, t, self.config.temperature)
        first = rank() * len(z)
        return {
            "info_nce": (contrast(p, first) + contrast(p_prime, first)) / 2,
            "invariance": self.config.invariance * (invariance(p, p_prime) + invariance(p_prime, p)) / 2,
        }

    def after_step(self, progress: float) -> None:
        momentum = cosine(progress, self.config.momentum, 1.0)
        self.target_encoder.follow(self.encoder, momentum)
        self.target_head.follow(self.head, momentum)

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the online embeddings are: see `measures.embedding`."""
        return embedding(self.head(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
