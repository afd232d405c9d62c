"""An Empirical Study of Training Self-Supervised Vision Transformers (MoCo v3). Chen, Xie, He, 2021.
https://arxiv.org/abs/2104.02057

A prediction from one view must find the key of the other view among those of the whole batch, in both directions; keys come from a
moving average of encoder and projector. ViTs train without sudden dips when their patch embedding stays as it was drawn.

Symbols: q, a query; k, a key; tau, the temperature; m, the momentum of the key encoder.

Differs from the paper:
- Both views pass the network as one batch, so batch norm sees them together; the authors pass them one after the other.
- A ViT's positions and first weights are timm's; the authors' positions are fixed sines and their weights Xavier's.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses AdamW for ViTs, LARS for ResNets.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import MoCoV3 as MoCoV3Config
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.contrastive import moco_v3
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.schedules import cosine


class MoCoV3(Method):
    """Encoder, projector and predictor for queries; moving averages of the first two for keys.

    Heads as the authors' (https://github.com/facebookresearch/moco-v3/blob/main/moco/builder.py): the projector ends in a batch norm
    without gain and bias, and so does a ViT's predictor.
    """

    def __init__(self, config: MoCoV3Config, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        if encoder.is_vit and config.freeze_patches:
            encoder.backbone.patch_embed.requires_grad_(False)
        layers = config.projector_layers or (3 if encoder.is_vit else 2)
        self.projector = mlp(encoder.dim, *[config.hidden] * (layers - 1), config.output, last_norm=True, last_affine=False)
        self.predictor = mlp(config.output, config.hidden, config.output, last_norm=encoder.is_vit, last_affine=False)
        self.key_encoder, self.key_projector = (Teacher(part, batch_statistics=True) for part in (self.encoder, self.projector))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images = torch.cat(views)
        q1, q2 = self.predictor(self.projector(self.encoder(images))).chunk(2)
        k1, k2 = (gather(keys) for keys in self.key_projector(self.key_encoder(images)).chunk(2))
        first = rank() * len(q1)
        return {"info_nce": moco_v3(q1, k2, self.config.temperature, first) + moco_v3(q2, k1, self.config.temperature, first)}

    def after_step(self, progress: float) -> None:
        momentum = cosine(progress, self.config.momentum, 1.0)
        self.key_encoder.follow(self.encoder, momentum)
        self.key_projector.follow(self.projector, momentum)

    def exported(self) -> nn.Module:
        return self.encoder

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are: see `measures.embedding`."""
        return embedding(self.projector(self.encoder(views[0])))
