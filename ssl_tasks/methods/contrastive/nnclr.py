"""With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual Representations (NNCLR). Dwibedi, Aytar, Tompson,
Sermanet, Zisserman, 2021. https://arxiv.org/abs/2104.14548

The positive of one view is not the other view but the nearest neighbour of that other view in a queue of earlier embeddings: another image
with, one hopes, the same content, further away than any augmentation could bring it. All other images of the batch are negatives.

Symbols: z = g(f(x)), the projection; p = h(z), the prediction; Q, the queue; NN(z, Q), its row nearest to z; tau, the temperature.

The loss is that of NN(z, Q) with p', and of NN(z', Q) with p, a mean of both. Some texts print NN(z, Q) with z itself, which leaves out the
second view, and an EMA encoder behind the queue: the queue holds the plain z of earlier steps.

Differs from the paper:
- Its pseudocode lets the embeddings of one view into the queue, and so does this; the paper does not say with what the queue starts: random
  unit vectors here, which are further from any image than images are from each other.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import NNCLR as NNCLRConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.neighbours import across_views
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class NNCLR(Method):
    """Encoder, projector and predictor, and a queue in which neighbours are sought."""

    def __init__(self, config: NNCLRConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.hidden, config.output, last_norm=True)
        self.predictor = mlp(config.output, config.predictor_hidden, config.output, last_bias=True)
        self.queue = Queue(config.queue, config.output)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        projected = self.projector(self.encoder(torch.cat(views)))
        predictions = self.predictor(projected).chunk(2)
        z, z_prime = normalize(projected.detach().to(self.queue.rows.dtype), dim=1).chunk(2)
        friends = [self.queue.nearest(each)[:, 0] for each in (z, z_prime)]
        if self.training:
            self.queue.push(z)  # after the search: z would be its own neighbour
        p, p_prime = (gather(each) for each in predictions)
        first, temperature = rank() * len(z), self.config.temperature
        losses = [across_views(friends[0], p_prime, temperature, first), across_views(friends[1], p, temperature, first)]
        return {"nnclr": torch.stack(losses).mean()}

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are, see `measures.embedding`; `friend_cosine`, of an image with its neighbour in the queue.

        A cosine of 1 while the embeddings are spread tells that the queue holds the images themselves: a set that is smaller than the queue.
        """
        z = self.projector(self.encoder(views[0]))
        unit = normalize(z.to(self.queue.rows.dtype), dim=1)
        cosine = (unit * self.queue.nearest(unit)[:, 0]).sum(dim=1).mean().item()
        return {**embedding(z), "friend_cosine": cosine}
