"""Momentum Contrast for Unsupervised Visual Representation Learning (MoCo v1). He, Fan, Wu, Xie, Girshick, 2019.
https://arxiv.org/abs/1911.05722
Improved Baselines with Momentum Contrastive Learning (MoCo v2). Chen, Fan, Girshick, He, 2020. https://arxiv.org/abs/2003.04297

The query of one view must find the key of the other among a queue of keys of earlier batches, so that the number of negatives does
not hang on the batch. Keys come from a moving average of the query encoder, slow enough for old keys and new ones to compare.

Symbols: q, a query; k, a key; m, the momentum of the key encoder; tau, the temperature; K, the length of the queue.

Differs from the papers:
- No shuffled batch norm: both encoders' batch norms see the whole batch of all processes, so that it has no parts by whose statistics
  a query could tell its key. That a key shares its batch with its query, and the queue does not, may still show. Running statistics for
  keys would hide it (EMAN, https://arxiv.org/abs/2101.08482), but with them all queries of a small ConvNet on digits became one.
- Any batch: one that does not divide the queue goes round its end, where the authors' code refuses it.
- v1's colour jitter works in a fixed order; augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import MoCoV1, MoCoV2
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.contrastive import moco
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class MoCo(Method):
    """Query encoder, its moving average, and the queue; v1 and v2 differ in the head and in defaults."""

    def __init__(self, config: MoCoV1 | MoCoV2, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        hidden = [config.hidden] if isinstance(config, MoCoV2) else []
        self.head = mlp(encoder.dim, *hidden, config.output, norm=False, last_bias=True)
        self.key_encoder, self.key_head = Teacher(self.encoder, batch_statistics=True), Teacher(self.head)
        self.queue = Queue(config.queue, config.output)
        self._keys: Tensor | None = None  # of the step that is under way, so no part of the state dict

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        queries = self.head(self.encoder(views[0]))
        keys = self.key_head(self.key_encoder(views[1]))
        if self.training:
            self._keys = keys
        return {"info_nce": moco(queries, keys, self.queue.rows, self.config.temperature)}

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
        """How alive the queries are, see `measures.embedding`, and how stale the queue is.

        `queue_age`: steps since its oldest key was made. `queue_drift`: share of the key encoder that was replaced since, 1 - m^age;
        above one half the oldest keys are those of another network: a shorter queue or a higher momentum helps.
        """
        age = self.queue.age
        return {**embedding(self.head(self.encoder(views[0]))), "queue_age": age, "queue_drift": 1 - self.config.momentum**age}
