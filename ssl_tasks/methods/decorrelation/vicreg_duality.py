"""On the duality between contrastive and non-contrastive self-supervised learning (VICReg-exp and VICReg-ctr). Garrido, Chen, Bardes,
Najman, LeCun, 2022. https://arxiv.org/abs/2206.02574

Two of the steps that lead from VICReg to SimCLR. VICReg-exp takes InfoNCE's repulsion for the covariance term: the log of a sum of
exponentials in the place of a sum of squares, so that the largest covariances are pushed most. VICReg-ctr is the same of the transposed
embeddings: not dimensions that say the same are pushed apart but images of a view that look alike, and not dimensions but embeddings
keep their spread. What was non-contrastive is contrastive by that, and the paper finds the two to do alike.

Symbols: z, z', the projections of the two views; C, the covariances of a view's dimensions; tau, the temperature of the soft maximum.

Differs from the paper:
- Terms are scaled as in VICReg's code, see `ssl_tasks.losses.decorrelation`, and weighted as there; the paper tunes weights and
  temperature for each width of the projector (its table S6), and these are not all among the defaults here.
- An embedding's length is held by its numbers' standard deviation, 1, as VICReg's code holds a dimension's, and similarities are over the
  number of dimensions: the paper leaves both scales open.
- Both views pass the network as one batch, so batch norm sees them together.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import VICRegCtr, VICRegExp
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather
from ssl_tasks.losses.decorrelation import invariance, variance
from ssl_tasks.losses.duality import soft_covariance, soft_similarity, spread
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class VICRegDuality(Method):
    """Encoder and projector; dimensions, or images, are those of the whole batch of all processes."""

    def __init__(self, config: VICRegExp | VICRegCtr, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.hidden, config.output)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z, z_prime = self.projector(self.encoder(torch.cat(views))).chunk(2)
        everyone = gather(z), gather(z_prime)
        config = self.config
        terms = {"invariance": config.invariance * invariance(z, z_prime)}
        if isinstance(config, VICRegExp):
            repulsion = config.covariance * soft_covariance(*everyone, config.temperature)
            return {**terms, "variance": config.variance * variance(*everyone), "covariance": repulsion}
        repulsion = config.similarity * soft_similarity(*everyone, config.temperature)
        return {**terms, "variance": config.variance * spread(*everyone), "similarity": repulsion}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are: see `measures.embedding`; VICReg-exp's variance term holds their raw standard deviation near 1."""
        seen = embedding(self.projector(self.encoder(views[0])))
        return {**seen, "embedding_std": seen["embedding_raw_std"]} if isinstance(self.config, VICRegExp) else seen

    def exported(self) -> nn.Module:
        return self.encoder
