"""Mean Shift for Self-Supervised Learning (MSF). Koohpayegani, Tejankar, Pirsiavash, 2021.
https://arxiv.org/abs/2105.07269

BYOL pulls a prediction to what a target network says of another view of the image. MSF pulls it to the mean of the k nearest neighbours of
that target in a memory of targets of earlier images: each image moves to where images are dense, as in the mean-shift algorithm.

Symbols: u, the target; M, the memory, which u enters before the search, so that it is its own first neighbour; v, the prediction; k, neighbours.
With k = 1 this is BYOL of one direction.

Differs from the paper and the authors' code (https://github.com/UMBCvision/MSF):
- No shuffled batch norm: the target's batch norms see the whole batch of all processes.
- A queue of any length, where the code's must be a multiple of the batch.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import MSF as MSFConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.neighbours import mean_shift
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class MSF(Method):
    """Online encoder, projector and predictor; target encoder and projector; the memory. The online encoder is exported."""

    def __init__(self, config: MSFConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.output, last_bias=True)
        self.predictor = mlp(config.output, config.hidden, config.output, last_bias=True)
        self.target_encoder, self.target_projector = (Teacher(part, batch_statistics=True) for part in (self.encoder, self.projector))
        self.memory = Queue(config.queue, config.output)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """The view that predicts, and the target's."""
        size = self.encoder.config.image_size
        return augment(self.config.views, images, size, draw) + augment(self.config.target, images, size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        prediction = self.predictor(self.projector(self.encoder(views[0])))
        target = self.target_projector(self.target_encoder(views[1]))
        target = normalize(target.to(self.memory.rows.dtype), dim=1)
        if self.training:
            self.memory.push(target)
        return {"mean_shift": mean_shift(prediction, self.memory.nearest(target, self.config.neighbours))}

    def after_step(self, progress: float) -> None:
        self.target_encoder.follow(self.encoder, self.config.momentum)
        self.target_projector.follow(self.projector, self.config.momentum)

    def exported(self) -> nn.Module:
        return self.encoder

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the projections are: see `measures.embedding`."""
        return embedding(self.projector(self.encoder(views[0])))
