"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction. Zbontar, Jing, Misra, LeCun, Deny, 2021.
https://arxiv.org/abs/2103.03230

Each dimension of an embedding is to agree between two views of an image (invariance) and to be uncorrelated with every other
dimension (redundancy reduction). An embedding that is constant, or that says one thing many times, cannot do both.

Symbols: z, z', the projections of the two views; C, their cross-correlation over the batch; lambda, the weight of redundancy.

Differs from the paper:
- Both views pass the network as one batch, so batch norm sees them together; the authors pass them one after the other.
  The correlation standardises each view by itself, as theirs.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import BarlowTwins as BarlowTwinsConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather
from ssl_tasks.losses.decorrelation import barlow_twins
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class BarlowTwins(Method):
    """Encoder and projector; the correlation is that of the whole batch of all processes."""

    def __init__(self, config: BarlowTwinsConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.hidden, config.output)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z, z_prime = self.projector(self.encoder(torch.cat(views))).chunk(2)
        invariance, redundancy = barlow_twins(gather(z), gather(z_prime))
        return {"invariance": invariance, "redundancy": self.config.redundancy * redundancy}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are: see `measures.embedding`; their rank tells of redundancy, which standardising hides from the spread."""
        return embedding(self.projector(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
