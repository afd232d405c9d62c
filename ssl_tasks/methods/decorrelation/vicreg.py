"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning. Bardes, Ponce, LeCun, 2022.
https://arxiv.org/abs/2105.04906

Two views of an image get the same embedding (invariance) while every dimension keeps its spread over the batch (variance) and
no two dimensions say the same (covariance). Nothing else keeps it from collapsing: no negatives, no momentum, no stop-gradient.

Symbols: z, z', the expander's output for the two views; both go through the same encoder and expander.

Differs from the paper:
- Terms are scaled as in the authors' code, see `ssl_tasks.losses.decorrelation`; the weights 25, 25, 1 belong to that scaling.
- Both views pass the network as one batch, so batch norm sees them together; the authors pass them one after the other.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import VICReg as VICRegConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather
from ssl_tasks.losses.decorrelation import covariance, invariance, variance
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class VICReg(Method):
    """Encoder and expander; variance and covariance are those of the whole batch of all processes."""

    def __init__(self, config: VICRegConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.expander = mlp(encoder.dim, config.hidden, config.hidden, config.output)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z, z_prime = self.expander(self.encoder(torch.cat(views))).chunk(2)
        everyone = gather(z), gather(z_prime)
        return {
            "invariance": self.config.invariance * invariance(z, z_prime),
            "variance": self.config.variance * variance(*everyone),
            "covariance": self.config.covariance * covariance(*everyone),
        }

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the embeddings are: see `measures.embedding`; the variance term holds their raw standard deviation near 1."""
        seen = embedding(self.expander(self.encoder(views[0])))
        return {**seen, "embedding_std": seen["embedding_raw_std"]}

    def exported(self) -> nn.Module:
        return self.encoder
