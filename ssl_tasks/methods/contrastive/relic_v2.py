"""Pushing the limits of self-supervised ResNets: Can we outperform supervised learning without labels on ImageNet? (ReLICv2).
Tomasev, Bica, McWilliams, Buesing, Pascanu, Blundell, Mitrovic, 2022. https://arxiv.org/abs/2201.05119

ReLIC over several large crops, from some of which the background is taken away, and small ones: every crop must find each large crop's
target among those of the batch, and resemble other images as that large crop does.

Symbols: L, S, the numbers of large and small crops; z_v, the online network's embedding of crop v; t_l, the target network's of large
crop l; p_v = p(z_v; t_l), the softmax of cosine similarities of z_v with the t_l of all images; beta, the weight of the divergence.

The loss is the mean over the L (L + S) pairs of a large crop l and a crop v of -log p_v(own image) + beta KL(p_v || sg p_l).

Differs from the paper, or settles what it leaves open:
- Candidates are the targets of one large crop of every image, so that other large crops of an image are never its negatives, neither
  for large crops nor for small ones.
- The reference p_l is the online network's for the large crop itself, over the same candidates. So v = l, which is counted among the
  L (L + S) pairs as in the paper's sum, has no divergence, and an easy contrast: an image against others under the same crop.
- All images of the batch are candidates; the paper may sample fewer.
- The paper learns to find backgrounds, by networks of its own, and crops images whose background is gone. Here nothing is learned: a large
  crop, as the network sees it, loses what stands out little from its mean colour, see `ssl_tasks.data.saliency`; lost pixels become
  the mean colour of the data set.
- Heads and the target are ReLIC's as described there, with batch norm after hidden layers and BYOL's momentum.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ; jitter is BYOL's, crops' scales SwAV's.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import ReLICv2 as ReLICv2Config
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.saliency import foreground
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.invariance import beliefs, contrast, invariance
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.schedules import cosine


class ReLICv2(Method):
    """Online encoder and head, and their moving averages, the target, which sees large crops alone. The online encoder is exported."""

    def __init__(self, config: ReLICv2Config, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = mlp(encoder.dim, *(config.hidden // 2**layer for layer in range(4)), config.output, last_bias=True)
        self.target_encoder, self.target_head = (Teacher(part, batch_statistics=True) for part in (self.encoder, self.head))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """Crops, and behind them which of each image's large crops lose their background, (B, L)."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        return [*crops, draw.uniforms(self.config.views.count) < self.config.saliency]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        *crops, bare = views
        count, temperature = self.config.views.count, self.config.temperature
        large = torch.cat([without_background(crop, chosen) for crop, chosen in zip(crops[:count], bare.unbind(1), strict=True)])
        small = [torch.cat(crops[count:])] if len(crops) > count else []
        pooled = torch.cat([features.pooled for features in self.encoder.multi_crop([large, *small])])
        z = self.head(pooled).chunk(len(crops))
        targets = self.target_head(self.target_encoder(large)).chunk(count)
        contrasts, divergences = [], []
        for anchor, t in enumerate(map(gather, targets)):
            p = [beliefs(crop, t, temperature) for crop in z]
            contrasts += [contrast(p_v, rank() * len(p_v)) for p_v in p]
            divergences += [invariance(p_v, p[anchor]) for p_v in p]
        return {"info_nce": torch.stack(contrasts).mean(), "invariance": self.config.invariance * torch.stack(divergences).mean()}

    def after_step(self, progress: float) -> None:
        momentum = cosine(progress, self.config.momentum, 1.0)
        self.target_encoder.follow(self.encoder, momentum)
        self.target_head.follow(self.head, momentum)

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the online embeddings are: see `measures.embedding`."""
        return embedding(self.head(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder


def without_background(crops: Tensor, chosen: Tensor) -> Tensor:
    """Crops (B, C, H, W), of those that are chosen (B,) what stands out; 0 elsewhere."""
    return crops.where(foreground(crops) | ~chosen.view(-1, 1, 1, 1), 0.0)
