"""Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (DeepCluster-v2). Caron, Misra, Mairal, Goyal,
Bojanowski, Joulin, 2020. https://arxiv.org/abs/2006.09882

What the network says of each image is remembered while it trains; at the end of an epoch spherical k-means clusters it, and in the next
one every crop of an image must tell the image's cluster. The centroids are the classifier, which is not trained.

Symbols: z, projections of length 1; c, prototypes, the centroids; tau, the temperature of the softmax over z c.

Differs from the paper and the authors' code (https://github.com/facebookresearch/swav/blob/main/main_deepclusterv2.py):
- Before the first epoch the authors let the untrained network look at all images, and cluster that. Here labels are random, and used
  alike, until every image was seen once: the first epoch tells images apart by chance.
- An epoch is over when as many images were seen as there are; what its last batch left out is clustered as it was seen before, a random
  vector where it never was. The authors leave it without a label.
- First centroids are drawn as in k-means++, and an empty cluster starts again from the point farthest from its centroid; the authors
  begin with random images, and leave empty clusters where they are.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ. Any optimizer; the authors use LARC.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import DeepClusterV2 as DeepClusterV2Config
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.clustering import cosines
from ssl_tasks.losses.clusters import tell_label
from ssl_tasks.measures import distribution, embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.bank import Bank
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.kmeans import check_enough, kmeans
from ssl_tasks.nn.rounds import Rounds, balanced


class DeepClusterV2(Method):
    """Encoder and projector, a bank for each global crop, and the clusters of each head, the same on every process.

    Raises:
        UserError: where there are too few images for so many clusters.
    """

    images: Tensor
    labels: Tensor
    prototypes: Tensor

    def __init__(self, config: DeepClusterV2Config, encoder: TimmEncoder, images: int) -> None:
        super().__init__()
        check_enough(images, config.clusters, "method.clusters")
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.output, last_bias=True)
        self.banks = nn.ModuleList([Bank(images, config.output) for _ in range(config.views.count)])
        self.rounds = Rounds(images)
        self.register_buffer("images", torch.tensor(images))
        self.register_buffer("labels", balanced(config.heads, images, config.clusters))
        self.register_buffer("prototypes", normalize(torch.randn(config.heads, config.clusters, config.output), dim=-1))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return [*augment(self.config.views, images, self.encoder.config.image_size, draw), draw.rows]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        *crops, images = views
        z = self._embedded(crops)
        if self.training:
            for bank, own in zip(cast(list[Bank], list(self.banks)), z.detach().chunk(len(crops)), strict=False):  # small crops have none
                bank.move(images, own, momentum=0.0)
            self.rounds.count(len(images))
        heads = zip(self.prototypes, self.labels[:, images], strict=True)
        losses = [tell_label(cosines(z, prototypes) / self.config.temperature, labels.repeat(len(crops))) for prototypes, labels in heads]
        return {"deepcluster": torch.stack(losses).mean()}

    def after_step(self, progress: float) -> None:
        """Cluster the images, where all were seen since the last time: each head what is remembered of another crop."""
        if not self.rounds.ended():
            return
        for head in range(self.config.heads):
            seed = int(self.rounds.done) * self.config.heads + head
            rows = self.banks[head % len(self.banks)].get_buffer("rows")
            self.prototypes[head], self.labels[head] = kmeans(rows, self.config.clusters, seed, self.config.kmeans_iterations)

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are, see `measures.embedding`, and `prototypes_used`, of the first head: see `measures.distribution`."""
        z = self._embedded(views[:1])
        used = distribution((cosines(z, self.prototypes[0]) / self.config.temperature).softmax(dim=1))["prototypes_used"]
        return {**embedding(z), "prototypes_used": used}

    def _embedded(self, crops: list[Tensor]) -> Tensor:
        """z of all crops, one crop after the other."""
        count = self.config.views.count
        sizes = [torch.cat(group) for group in (crops[:count], crops[count:]) if group]
        return normalize(self.projector(torch.cat([features.pooled for features in self.encoder.multi_crop(sizes)])), dim=1)
