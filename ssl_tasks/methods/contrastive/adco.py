"""AdCo: Adversarial Contrast for Efficient Learning of Unsupervised Representations from Self-Trained Negative Adversaries. Hu, Wang, Hu, Qi,
2020. https://arxiv.org/abs/2011.08435

MoCo's game with learned negatives in the place of a queue: the encoder goes down the contrastive loss and the negatives go up, in the same
step, to where the queries are. So all negatives keep up with the encoder, where a queue replaces a few of its rows a step.

Symbols: q, a query; k, its key, of a moving average of the encoder; n, the negatives, of length 1; tau, the temperature of the encoder's
softmax; tau_n, of the negatives'.

The negatives are moved by an SGD of their own, whose rate has nothing to do with what trains the encoder.

Differs from the paper and the authors' code (https://github.com/maple-research-lab/AdCo):
- Negatives are brought to length 1 after each step, and are not decayed; the code divides by their length where it uses them.
- They start as keys, as in the code, for at its cold temperature random vectors would be too far off to feel any pull. The code takes a first
  round of the data for that, in which they stand still; here they climb from the first step on, and keys replace the random ones.
- A query stands against its key and the negatives, as in the paper's equation 1; the code adds the keys of the batch.
- No shuffled batch norm, see `moco`. Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import AdCo as AdCoConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather
from ssl_tasks.losses.contrastive import moco
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class AdCo(Method):
    """Query encoder, its moving average, and the negatives, which are the same on every process.

    Attributes:
        negatives: a queue that takes keys until it is full.
        velocity: of the negatives' SGD.
    """

    velocity: Tensor

    def __init__(self, config: AdCoConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = mlp(encoder.dim, config.hidden, config.output, norm=False, last_bias=True)
        self.key_encoder, self.key_head = Teacher(self.encoder, batch_statistics=True), Teacher(self.head)
        self.negatives = Queue(config.negatives, config.output)
        self.register_buffer("velocity", torch.zeros_like(self.negatives.rows))
        self._has_all = False
        self._seen: tuple[Tensor, Tensor] | None = None  # queries and keys of the step that is under way

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        q = self.head(self.encoder(views[0]))
        k = self.key_head(self.key_encoder(views[1]))
        if self.training:
            self._seen = q.detach(), k
        return {"info_nce": moco(q, k, self.negatives.rows, self.config.temperature)}

    def after_step(self, progress: float) -> None:
        """Move the negatives up the loss that the encoder just went down, and the key encoder after the encoder."""
        if self._seen is not None:
            queries, keys = (gather(each.to(self.velocity.dtype)) for each in self._seen)
            self.velocity.mul_(self.config.negatives_momentum).add_(self.uphill(queries, keys))
            self.negatives.rows.copy_(normalize(self.negatives.rows + self.config.negatives_rate * self.velocity, dim=1))
            self._has_all = self._has_all or self.negatives.is_full
            if not self._has_all:
                self.negatives.push(normalize(self._seen[1], dim=1))
            self._seen = None
        self.key_encoder.follow(self.encoder, self.config.momentum)
        self.key_head.follow(self.head, self.config.momentum)

    def uphill(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The gradient of the loss at the negatives (K, D), along the sphere: towards the queries that they are hardest to tell from."""
        negatives = self.negatives.rows.clone().requires_grad_()
        loss = moco(queries, keys, normalize(negatives, dim=1), self.config.negatives_temperature)
        return torch.autograd.grad(loss, negatives)[0]

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the queries are, see `measures.embedding`, and `hardest_cosine`, of a query with the negative nearest to it.

        Near 1 the adversary has won: no encoder could tell such a negative from the key.
        """
        q = self.head(self.encoder(views[0]))
        unit = normalize(q.to(self.velocity.dtype), dim=1)
        hardest = self.negatives.nearest(unit)[:, 0]
        return {**embedding(q), "hardest_cosine": (unit * hardest).sum(dim=1).mean().item()}
