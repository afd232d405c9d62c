"""Contrastive Learning with Stronger Augmentations (CLSA). Wang, Qi, 2021.
https://arxiv.org/abs/2104.07713

MoCo's contrast is between weakly changed views; a strongly changed one is too far off to be told that it is the same image. It is told
instead how similar the weak one is to all images of the queue, and must find the same similarities.

Symbols: q, the query of a weak view; k, the key of another weak view; s, the query of a strong one; p(.|q), the softmax of the similarities
of q to k and to all rows of the queue.

Differs from the paper and the authors' code (https://github.com/maple-research-lab/CLSA):
- The strong view: the paper changes it, on top of MoCo's colours, by five of fourteen operations that are drawn for each image, each done
  with probability one half (RandAugment). Here all operations of `ssl_tasks.data.views` may happen in its fixed order, each as often as it
  would be drawn: rotation and shear (40 % of images), solarization (20 %), and brightness, contrast and saturation by up to 80 %. There
  is no posterization, equalization, sharpening, translation and automatic contrast.
- The loss of strong views is the divergence; the code's cross-entropy has the same gradient and the weak view's entropy more.
- A query stands against the queue; the code adds the keys of the batch. One weak query (CLSA-Single), whose view is not smaller.
- No shuffled batch norm, see `moco`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import CLSA as CLSAConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.contrastive import moco
from ssl_tasks.losses.neighbours import divergence
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class CLSA(Method):
    """Query encoder, its moving average, and the queue: MoCo v2, with strong views beside."""

    def __init__(self, config: CLSAConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = mlp(encoder.dim, config.hidden, config.output, norm=False, last_bias=True)
        self.key_encoder, self.key_head = Teacher(self.encoder, batch_statistics=True), Teacher(self.head)
        self.queue = Queue(config.queue, config.output)
        self._keys: Tensor | None = None  # of the step that is under way

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """The query's weak view, the key's, and the strong ones."""
        size = self.encoder.config.image_size
        weak = augment(self.config.views, images, size, draw)
        return weak + augment(self.config.strong, images, self.config.strong.local_side(size), draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        weak, key_view, *strong = views
        features, strong_features = self.encoder.multi_crop([weak, torch.cat(strong)])
        q, queries = self.head(features.pooled), self.head(strong_features.pooled)
        keys = self.key_head(self.key_encoder(key_view))
        if self.training:
            self._keys = keys
        queue = self.queue.rows
        divergences = [divergence(s, q, keys, queue, self.config.divergence_temperature) for s in queries.chunk(len(strong))]
        return {
            "info_nce": moco(q, keys, queue, self.config.temperature),
            "divergence": self.config.divergence * torch.stack(divergences).sum(),
        }

    def after_step(self, progress: float) -> None:
        """Move the key encoder, and only now let the keys in: in the queue they would have been negatives of their own queries."""
        self.key_encoder.follow(self.encoder, self.config.momentum)
        self.key_head.follow(self.head, self.config.momentum)
        if self._keys is not None:
            self.queue.push(normalize(self._keys.to(self.queue.rows.dtype), dim=1))
            self._keys = None

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the queries are: see `measures.embedding`."""
        return embedding(self.head(self.encoder(views[0])))
