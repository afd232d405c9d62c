"""Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning (BYOL). Grill, Strub, Altche, Tallec, Richemond, Buchatskaya,
Doersch, Pires, Guo, Azar, Piot, Kavukcuoglu, Munos, Valko, 2020. https://arxiv.org/abs/2006.07733

An online network predicts, from one view of an image, the projection that a target network makes of another view.
The target is a moving average of the online network without its predictor; that only one side has a predictor, and only one side
learns, keeps both from agreeing on a constant.

Symbols: f, g, q, the encoder, projector and predictor; theta, xi, the online and the target parameters; tau, the target's momentum.

Differs from the paper:
- Both views pass a network as one batch, so batch norm sees them together; the authors pass them one after the other.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import BYOL as BYOLConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.prediction import byol
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.schedules import cosine


class BYOL(Method):
    """Online encoder, projector and predictor; target encoder and projector. The online encoder is exported."""

    def __init__(self, config: BYOLConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.output)
        self.predictor: nn.Module = mlp(config.output, config.hidden, config.output)
        self.target_encoder, self.target_projector = Teacher(self.encoder, batch_statistics=True), Teacher(self.projector, batch_statistics=True)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        both = torch.cat(views)
        prediction, prediction_prime = self.predictor(self.projector(self.encoder(both))).chunk(2)
        target, target_prime = self.target_projector(self.target_encoder(both)).chunk(2)
        return {"byol": byol(prediction, target_prime) + byol(prediction_prime, target)}

    def after_step(self, progress: float) -> None:
        momentum = cosine(progress, self.config.momentum, 1.0)
        self.target_encoder.follow(self.encoder, momentum)
        self.target_projector.follow(self.projector, momentum)

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the online projections are: see `measures.embedding`."""
        return embedding(self.projector(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
