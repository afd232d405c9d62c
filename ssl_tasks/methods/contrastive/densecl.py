"""Dense Contrastive Learning for Self-Supervised Visual Pre-Training (DenseCL). Wang, Zhang, Shen, Kong, Li, 2020.
https://arxiv.org/abs/2011.09157

MoCo v2 on whole views, and beside it on places: each place of one view must find its own key, that of the other view's place whose
backbone feature is most like its own, among a queue of other images' keys.

Symbols: q, k, query and key of a view; r, t, queries and keys of its places; lambda, the weight of the dense loss; tau, the
temperature; m, the momentum of the key encoder.

Differs from the paper:
- No shuffled batch norm: both encoders' batch norms see the whole batch of all processes, as in MoCo here.
- A ViT's patches are places too; its whole view is the CLS token. The paper has ResNets alone.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import DenseCL as DenseCLConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.contrastive import moco
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.places import most_alike, taken
from ssl_tasks.nn.queue import Queue


class DenseCL(Method):
    """Query encoder with a head for views and one for places, their moving averages, and a queue of keys for each."""

    def __init__(self, config: DenseCLConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head, self.dense_head = (mlp(dim, config.hidden, config.output, norm=False, last_bias=True) for dim in (encoder.dim, encoder.width))
        self.key_encoder, self.key_head, self.key_dense_head = Teacher(self.encoder, batch_statistics=True), Teacher(self.head), Teacher(self.dense_head)
        self.queue, self.dense_queue = Queue(config.queue, config.output), Queue(config.queue, config.output)
        self._keys: tuple[Tensor, Tensor] | None = None  # of the step that is under way, so no part of the state dict

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        query = self.encoder.tokens(views[0])
        with torch.no_grad():
            key = cast(TimmEncoder, self.key_encoder.network).tokens(views[1])
        q, r = self.head(query.pooled), self.dense_head(query.patches)
        k, t = self.key_head(key.pooled), self.key_dense_head(key.patches)
        if self.training:
            self._keys = k, t.mean(dim=1)
        own = taken(t, most_alike(query.patches, key.patches))
        weight, temperature = self.config.dense_weight, self.config.temperature
        return {
            "info_nce": (1 - weight) * moco(q, k, self.queue.rows, temperature),
            "dense_info_nce": weight * moco(r.flatten(0, 1), own.flatten(0, 1), self.dense_queue.rows, temperature),
        }

    def after_step(self, progress: float) -> None:
        """Move the key encoder, and only now let the keys in: in the queue they would have been negatives of their own queries."""
        for keys, queries in ((self.key_encoder, self.encoder), (self.key_head, self.head), (self.key_dense_head, self.dense_head)):
            keys.follow(queries, self.config.momentum)
        if self._keys is not None:
            for queue, new in zip((self.queue, self.dense_queue), self._keys, strict=True):
                queue.push(normalize(new.to(queue.rows.dtype), dim=1))
            self._keys = None

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the queries are, of views and of places, see `measures.embedding`, and how stale the queues are, as in MoCo."""
        seen, age = self.encoder.tokens(views[0]), self.queue.age
        places = embedding(self.dense_head(seen.patches).mean(dim=1))
        return {
            **embedding(self.head(seen.pooled)),
            "dense_embedding_rank": places["embedding_rank"],
            "queue_age": age,
            "queue_drift": 1 - self.config.momentum**age,
        }
