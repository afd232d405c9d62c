"""Unsupervised Feature Learning via Non-Parametric Instance Discrimination. Wu, Xiong, Yu, Lin, 2018.
https://arxiv.org/abs/1805.01978

Every image is a class of its own, and the weight of a class is no parameter but the embedding that the image had when it was last seen,
which a memory bank holds. A softmax over all images is too long for large sets: noise-contrastive estimation asks instead whether a
row is the image's own or one of m that were drawn.

Symbols: v, the embedding of length 1; tau, the temperature; m, negatives; n, images; Z, the normaliser, fixed at the first batch as n times
the mean of exp(v . row / tau); lambda, the weight of the proximal term, which holds an embedding to the one before.

Differs from the paper and the authors' code (https://github.com/zhirongw/lemniscate.pytorch):
- The proximal term is the paper's (equation 10, lambda 30); the code has none.
- The code starts the bank with vectors of any direction and length; here they have length 1.
- `negatives: 0` takes the softmax over all images, as `--nce-k 0` of the code, in place of NCE. It has no proximal term: that is made for a sum
  over m negatives, and beside the softmax, whose gradients are far smaller, it drew a ViT's embeddings of digits to one point.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ: the code greys before it jitters, in a fixed order.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import InstanceDiscrimination as InstanceDiscriminationConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import mean
from ssl_tasks.losses.neighbours import instance_softmax, proximal
from ssl_tasks.losses.relations import noise_contrastive
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.bank import Bank
from ssl_tasks.nn.encoder import TimmEncoder


class InstanceDiscrimination(Method):
    """Encoder, linear head and a memory bank of every image's embedding.

    Attributes:
        normaliser: Z; 0 before the first batch.
    """

    images: Tensor
    normaliser: Tensor

    def __init__(self, config: InstanceDiscriminationConfig, encoder: TimmEncoder, images: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, config.output)
        self.bank = Bank(images, config.output)
        self.register_buffer("images", torch.tensor(images))
        self.register_buffer("normaliser", torch.zeros(()))
        self._seen: tuple[Tensor, Tensor] | None = None  # rows and embeddings of the step that is under way

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop, which image of the set each is, and the images drawn as its negatives (B, m): evenly, with replacement."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        count = len(self.bank.rows)
        drawn = (draw.uniforms(self.config.negatives) * count).long().clamp(max=count - 1)  # a product may be rounded up
        return [*crops, draw.rows, drawn]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        crop, rows, drawn = views
        v = normalize(self._embedded(crop).to(self.bank.rows.dtype), dim=1)
        if self.training:
            self._seen = rows, v
        if not self.config.negatives:
            return {"softmax": instance_softmax(v, self.bank.rows, rows, self.config.temperature)}
        nce = self._nce(v, torch.cat([rows[:, None], drawn], dim=1))
        if not self.config.proximal:
            return {"nce": nce}
        return {"nce": nce, "proximal": self.config.proximal * proximal(v, self.bank.rows[rows])}

    def after_step(self, progress: float) -> None:
        if self._seen is not None:
            self.bank.move(*self._seen, self.config.bank_momentum)
            self._seen = None

    def exported(self) -> nn.Module:
        return self.encoder

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the embeddings are: see `measures.embedding`."""
        return embedding(self._embedded(views[0]))

    def _embedded(self, crop: Tensor) -> Tensor:
        embedded: Tensor = self.head(self.encoder(crop))
        return embedded

    def _nce(self, v: Tensor, compared: Tensor) -> Tensor:
        """Equation 7: `compared` (B, 1 + m) are the image itself, then its negatives."""
        logits = self.bank.similarities(v, compared) / self.config.temperature
        now = len(self.bank.rows) * mean(logits.detach().exp().mean())
        normaliser = torch.where(self.normaliser > 0, self.normaliser, now.to(self.normaliser.dtype))
        if self.training:
            self.normaliser.copy_(normaliser)
        return noise_contrastive(logits, normaliser, len(self.bank.rows))
