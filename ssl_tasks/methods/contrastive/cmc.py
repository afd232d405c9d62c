"""Contrastive Multiview Coding (CMC). Tian, Krishnan, Isola, 2019.
https://arxiv.org/abs/1906.05849

Lightness and colour of an image are two views of it: what is said of the one must find, by noise-contrastive estimation, what was said of
the other among what was said of other images, which memory banks keep. Only what both views tell can help.

Symbols: v1, v2, the views; z1, z2, their embeddings of length 1; K, negatives; N, images; Z, the normaliser of each direction, fixed at the
first batch as N times the mean of exp(similarity / temperature).

Differs from the paper and the authors' code (https://github.com/HobbitLong/CMC):
- One encoder sees both views, as RGB images: lightness in grey, and colours at a lightness of 50; the paper trains a network of half the width
  for each and joins their features. So what is exported is an ordinary encoder, fed with both at once, which it never was in training.
- Two views, L and ab, on any encoder; the paper has more views too, from depth to segmentation.
- Negatives are rows of other images only, drawn with replacement, and as many as there are others where these are fewer than K.
- Lab is of sRGB with its own white point, D65, with no further normalisation.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import CMC as CMCConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.lab import halves
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import mean
from ssl_tasks.losses.relations import noise_contrastive
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.bank import Bank
from ssl_tasks.nn.encoder import TimmEncoder


class CMC(Method):
    """An encoder, and a linear head and a memory bank for each of the two views.

    Attributes:
        images: N.
        normalisers: Z of the bank of colours, which lightness is compared with, and of that of lightness; 0 before the first batch.
    """

    images: Tensor
    normalisers: Tensor

    def __init__(self, config: CMCConfig, encoder: TimmEncoder, images: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.lightness_head, self.colour_head = nn.Linear(encoder.dim, config.output), nn.Linear(encoder.dim, config.output)
        self.lightness_bank, self.colour_bank = Bank(images, config.output), Bank(images, config.output)
        self.count = images
        self.register_buffer("images", torch.tensor(images))
        self.register_buffer("normalisers", torch.zeros(2))
        self._seen: tuple[Tensor, list[Tensor]] | None = None  # rows and embeddings of the step that is under way

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop of each image, and rows (B, 1 + K) of the banks: its own, and those of its negatives."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        return [*crops, torch.cat([draw.rows[:, None], draw.others(self.config.negatives, self.count)], dim=1)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, rows = views
        z = [normalize(each.to(self.normalisers.dtype), dim=1) for each in self._embedded(images)]
        logits = [bank.similarities(own, rows) / self.config.temperature for own, bank in zip(z, (self.colour_bank, self.lightness_bank), strict=True)]
        now = torch.stack([self.count * mean(each.detach().exp().mean()) for each in logits])
        normalisers = torch.where(self.normalisers > 0, self.normalisers, now.to(self.normalisers.dtype))
        if self.training:
            self.normalisers.copy_(normalisers)
            self._seen = rows[:, 0], [own.detach() for own in z]
        lightness, colours = (noise_contrastive(each, normaliser, self.count) for each, normaliser in zip(logits, normalisers, strict=True))
        return {"lightness": lightness, "colour": colours}

    def after_step(self, progress: float) -> None:
        if self._seen:
            rows, z = self._seen
            for bank, own in zip((self.lightness_bank, self.colour_bank), z, strict=True):
                bank.move(rows, own, self.config.bank_momentum)
            self._seen = None

    def exported(self) -> nn.Module:
        return self.encoder

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the embeddings of both views are, one behind the other: see `measures.embedding`."""
        return embedding(torch.cat(self._embedded(views[0]), dim=1))

    def _embedded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of v1 and v2, of any length."""
        lightness, colours = self.encoder(torch.cat(halves(images))).chunk(2)
        return self.lightness_head(lightness), self.colour_head(colours)
