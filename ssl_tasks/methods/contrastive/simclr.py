"""A Simple Framework for Contrastive Learning of Visual Representations. Chen, Kornblith, Norouzi, Hinton, 2020.
https://arxiv.org/abs/2002.05709

Two random views of an image are each other's positive, the views of all other images of the batch are negatives.
The loss is taken on a projection of the features, which is dropped afterwards.

Two options are later papers': SimCLR v2 (https://arxiv.org/abs/2006.10029) deepens the projector and keeps its first layer;
DCL (https://arxiv.org/abs/2110.06848) takes the positive out of the denominator, which small batches gain from.

Symbols: h = f(x), the encoder's features; z = g(h), the projection; tau, the temperature.

Differs from the paper:
- The projector has batch norm after each of its layers, as the authors' code
  (https://github.com/google-research/simclr/blob/master/model_util.py, `projection_head`); the paper's formula has none.
- DCL's variant that weighs positives by a von Mises-Fisher density (DCLW) is left out.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import SimCLR as SimCLRConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.contrastive import nt_xent
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class SimCLR(Method):
    """Encoder f and projector g, trained with NT-Xent over the whole batch of all processes.

    With `export_layer` 1 the projector's first layer is the encoder's neck: the same network, cut one layer later.

    Raises:
        UserError: with `export_layer` 1, where the encoder has a neck already.
    """

    def __init__(self, config: SimCLRConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        if config.export_layer:
            encoder.add_neck(config.hidden)
        hidden = [config.hidden] * (config.layers - 1 - config.export_layer)
        self.projector = mlp(encoder.dim, *hidden, config.output, last_norm=True)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z, z_prime = self.projector(self.encoder(torch.cat(views))).chunk(2)
        everyone = gather(z), gather(z_prime)
        loss = nt_xent(z, z_prime, self.config.temperature, everyone, rank() * len(z), self.config.decoupled)
        return {"dcl" if self.config.decoupled else "nt_xent": loss}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are: see `measures.embedding`."""
        return embedding(self.projector(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
