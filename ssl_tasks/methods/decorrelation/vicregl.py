"""VICRegL: Self-Supervised Learning of Local Visual Features. Bardes, Ponce, LeCun, 2022.
https://arxiv.org/abs/2210.01571

VICReg on whole crops, and on pairs of their places: a place with the one of the other crop that shows the nearest point of the image,
and a place with the one whose embedding is nearest. Only the nearest pairs are kept, as crops overlap in part.

Symbols: z, the expander's output of a crop; y, the local expander's of its places; gamma, how many pairs are kept; alpha, the weight of
the whole crops, 1 - alpha that of places.

Differs from the paper:
- Terms are scaled as in the authors' code, see `ssl_tasks.losses.decorrelation`; variance and covariance of places are taken over the
  images of the batch, for the nearest pair of each, the second nearest and so on, and averaged.
- Every pair of a global crop and another one counts once; with local crops the authors count that of two global ones twice.
- Crops of one size pass the network as one batch, so batch norm sees them together; the authors pass them one after the other.
- A ViT's patches are places too; its whole view is the CLS token. The paper has ResNets and ConvNeXts.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS for ResNets, AdamW for ConvNeXts.
"""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from schemas.methods import VICRegL as VICRegLConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment_with_boxes
from ssl_tasks.distributed import gather
from ssl_tasks.losses.decorrelation import covariance, invariance, variance
from ssl_tasks.losses.places import place_covariance, place_variance
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.maps import grid_of
from ssl_tasks.nn.places import centres, nearest_pairs, taken


class VICRegL(Method):
    """Encoder, expander, and an expander of places; variance and covariance are those of the whole batch of all processes."""

    def __init__(self, config: VICRegLConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.expander = mlp(encoder.dim, config.hidden, config.hidden, config.output)
        self.local_expander = mlp(encoder.width, config.local_hidden, config.local_hidden, config.local_output)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """Crops, and behind them their boxes, (B, crops, 5)."""
        crops, boxes = augment_with_boxes(self.config.views, images, self.encoder.config.image_size, draw)
        return [*crops, boxes]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        *crops, boxes = views
        count, alpha = self.config.views.count, self.config.alpha
        z, y = self._expanded(crops)
        points = [centres(box, *grid_of(own.shape[1])) for box, own in zip(boxes.unbind(1), y, strict=True)]
        losses: dict[str, list[Tensor]] = {"global": [], "location": [], "feature": []}
        for i, j in combinations(range(len(crops)), 2):
            if i >= count:
                break
            losses["global"].append(self._vicreg(z[i], z[j]))
            kept = self.config.matches if j < count else self.config.local_matches
            for a, b in ((i, j), (j, i)):
                for name, near in (("location", points), ("feature", y)):
                    mine, theirs = nearest_pairs(near[a], near[b], kept)
                    losses[name].append(self._local_vicreg(taken(y[a], mine), taken(y[b], theirs)))
        weights = {"global": alpha, "location": 1 - alpha, "feature": 1 - alpha}
        return {name: weights[name] * torch.stack(each).mean() for name, each in losses.items()}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the embeddings are: see `measures.embedding`; the variance term holds their raw standard deviation near 1."""
        (z,), (y,) = self._expanded(views[:1])
        seen = embedding(z)
        return {**seen, "embedding_std": seen["embedding_raw_std"], "place_embedding_std": embedding(y.flatten(0, 1))["embedding_raw_std"]}

    def exported(self) -> nn.Module:
        return self.encoder

    def _expanded(self, crops: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """z (B, D) and y (B, N, E) of each crop."""
        count = self.config.views.count
        groups = [group for group in (crops[:count], crops[count:]) if group]
        features = self.encoder.multi_crop([torch.cat(group) for group in groups])
        z = self.expander(torch.cat([each.pooled for each in features])).chunk(len(crops))
        flat = self.local_expander(torch.cat([each.patches.flatten(0, 1) for each in features]))
        y, parts = [], flat.split([each.patches.shape[:2].numel() for each in features])
        for part, each, group in zip(parts, features, groups, strict=True):
            y += part.view(*each.patches.shape[:2], -1).chunk(len(group))
        return list(z), y

    def _vicreg(self, z: Tensor, z_prime: Tensor) -> Tensor:
        everyone, config = (gather(z), gather(z_prime)), self.config
        return config.invariance * invariance(z, z_prime) + config.variance * variance(*everyone) + config.covariance * covariance(*everyone)

    def _local_vicreg(self, y: Tensor, y_prime: Tensor) -> Tensor:
        """The same of matched places (B, K, E)."""
        everyone, config = (gather(y), gather(y_prime)), self.config
        return config.invariance * invariance(y, y_prime) + config.variance * place_variance(*everyone) + config.covariance * place_covariance(*everyone)
