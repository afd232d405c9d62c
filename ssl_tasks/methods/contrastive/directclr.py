"""Understanding Dimensional Collapse in Contrastive Self-supervised Learning (DirectCLR). Jing, Vincent, LeCun, Tian, 2021.
https://arxiv.org/abs/2110.09348

A contrastive loss on the feature itself leaves part of its dimensions dead, from which a projector keeps it. DirectCLR has none: the loss
sees the first d0 dimensions of the feature alone, and the others learn by what they share with them below the last layer.

Symbols: r = f(x), the encoder's feature; z = r[0 : d0], what the loss sees; tau, the temperature.

Differs from the paper and the authors' code (https://github.com/facebookresearch/directclr):
- The code trains a linear classifier beside, on features without gradient; it takes labels, and is left out.
- Without a residual connection around the encoder's last block, which a ViT and a ResNet have, the other dimensions get no gradient at all.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import DirectCLR as DirectCLRConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.neighbours import across_views
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder


class DirectCLR(Method):
    """An encoder, and nothing else.

    Raises:
        UserError: where the feature has fewer dimensions than the loss is to see.
    """

    def __init__(self, config: DirectCLRConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        if config.dim > encoder.dim:
            near = max(1, round(encoder.dim * 360 / 2048))
            raise UserError(f"method.dim {config.dim} is more than the {encoder.dim} dimensions of '{encoder.config.name}': set it lower, such as to {near}")
        self.config = config
        self.encoder = encoder

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z, z_prime = self.encoder(torch.cat(views))[:, : self.config.dim].chunk(2)
        first, temperature = rank() * len(z), self.config.temperature
        losses = [across_views(z, gather(z_prime), temperature, first), across_views(z_prime, gather(z), temperature, first)]
        return {"info_nce": torch.stack(losses).mean()}

    def exported(self) -> nn.Module:
        return self.encoder

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the whole feature is, see `measures.embedding`: its rank tells the collapse of dimensions."""
        return embedding(self.encoder(views[0]))
