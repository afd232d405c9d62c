"""Prototypical Contrastive Learning of Unsupervised Representations (PCL). Li, Zhou, Xiong, Hoi, 2020.
https://arxiv.org/abs/2005.04966

MoCo tells every image from every other one, though many are alike. PCL clusters what the key encoder says of the images, at several
granularities, and a query must find the centroid of its image's cluster too, each centroid at a temperature that fits its cluster.

Symbols: q, a query; k, its key; c, a centroid; phi, the concentration of its cluster; tau, InfoNCE's temperature and the mean phi.

Differs from the paper:
- What is clustered are the keys that each image had when it was last trained on, of a random crop; the paper lets the key encoder look
  at the middle of every image before each epoch.
- An epoch is over when as many images were seen as there are, and ProtoNCE begins with the first one that ends after the warm-up.
- Centroids are those of spherical k-means, and distances to them are along the sphere's chords; the paper's k-means is Euclidean, the
  best of five, and its centroids are set to length 1 afterwards.
- All other centroids are negatives; the paper draws as many as its queue is long.
- No shuffled batch norm, as in `ssl_tasks.methods.contrastive.moco`, and augmentations are those of `ssl_tasks.data.views`.
- Defaults are v2's, with the projector, temperature and views of MoCo v2.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import PCL as PCLConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.clusters import concentrations, proto_nce
from ssl_tasks.losses.contrastive import moco
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.bank import Bank
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.kmeans import check_enough, kmeans
from ssl_tasks.nn.queue import Queue
from ssl_tasks.nn.rounds import Rounds


class Clusters(nn.Module):
    """One granularity: the centroids, how concentrated each is, and each image's cluster."""

    centroids: Tensor
    phi: Tensor
    labels: Tensor

    def __init__(self, images: int, count: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("centroids", torch.zeros(count, dim))
        self.register_buffer("phi", torch.ones(count))
        self.register_buffer("labels", torch.zeros(images, dtype=torch.long))


class PCL(Method):
    """Query encoder, its moving average, the queue, a bank of keys and its clusters, the same on every process.

    Raises:
        UserError: where there are too few images for so many clusters.
    """

    images: Tensor
    clustered: Tensor

    def __init__(self, config: PCLConfig, encoder: TimmEncoder, images: int) -> None:
        super().__init__()
        check_enough(images, max(config.granularities), "method.granularities")
        self.config = config
        self.encoder = encoder
        self.head = mlp(encoder.dim, config.hidden, config.output, norm=False, last_bias=True)
        self.key_encoder, self.key_head = Teacher(self.encoder, batch_statistics=True), Teacher(self.head)
        self.queue = Queue(config.queue, config.output)
        self.bank, self.rounds = Bank(images, config.output), Rounds(images)
        self.granularities = nn.ModuleList([Clusters(images, count, config.output) for count in config.granularities])
        self.register_buffer("images", torch.tensor(images))
        self.register_buffer("clustered", torch.tensor(False))
        self._keys: Tensor | None = None  # of the step that is under way, so no part of the state dict

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return [*augment(self.config.views, images, self.encoder.config.image_size, draw), draw.rows]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        first, second, images = views
        queries = self.head(self.encoder(first))
        keys = self.key_head(self.key_encoder(second))
        if self.training:
            self._keys = keys
            self.bank.move(images, keys, momentum=0.0)
            self.rounds.count(len(images))
        loss = moco(queries, keys, self.queue.rows, self.config.temperature)
        if self.clustered:
            found = [proto_nce(queries, each.centroids, each.phi, each.labels[images]) for each in self._clusters()]
            loss = loss + torch.stack(found).mean()
        return {"pcl": loss}

    def after_step(self, progress: float) -> None:
        """Move the key encoder and let the keys in, as MoCo does; where all images were seen, and the warm-up is over, cluster them."""
        self.key_encoder.follow(self.encoder, self.config.momentum)
        self.key_head.follow(self.head, self.config.momentum)
        if self._keys is not None:
            self.queue.push(normalize(self._keys.to(self.queue.rows.dtype), dim=1))
            self._keys = None
        if self.rounds.ended() and progress >= self.config.warmup:
            self._cluster()

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the queries are: see `measures.embedding`."""
        return embedding(self.head(self.encoder(views[0])))

    def _clusters(self) -> list[Clusters]:
        return cast(list[Clusters], list(self.granularities))

    def _cluster(self) -> None:
        for number, (each, count) in enumerate(zip(self._clusters(), self.config.granularities, strict=True)):
            seed = int(self.rounds.done) * len(self.granularities) + number
            centroids, labels = kmeans(self.bank.rows, count, seed, self.config.kmeans_iterations)
            each.phi.copy_(concentrations(self.bank.rows, centroids, labels, self.config.alpha, self.config.temperature))
            each.centroids.copy_(centroids)
            each.labels.copy_(labels)
        self.clustered.fill_(True)
