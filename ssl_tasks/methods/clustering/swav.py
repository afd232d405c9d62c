"""Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (SwAV). Caron, Misra, Mairal, Goyal, Bojanowski, Joulin,
2020. https://arxiv.org/abs/2006.09882

Each crop of an image predicts the code of another one, its soft assignment to K learned prototypes. Codes are computed over the batch
so that all prototypes are used alike, which keeps all images from getting the same one.

Symbols: z, projections of length 1; c, prototypes of length 1; q, codes; tau, the softmax's temperature; epsilon, the codes' smoothness.

Differs from the paper:
- The queue fills from the first step and is used from `queue_start` on, once full; the authors' starts to fill then.
- Prototypes are set to length 1 after each step; the authors do it before the next one, which is the same.
- Sinkhorn and the products with prototypes are in float32 under autocast too.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
- Any optimizer; the paper uses LARC.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.methods import SwAV as SwAVConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.clustering import cosines, swapped_prediction
from ssl_tasks.losses.sinkhorn import sinkhorn
from ssl_tasks.measures import distillation, distribution
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class SwAV(Method):
    """Encoder, projector and prototypes; codes are those of the whole batch of all processes."""

    def __init__(self, config: SwAVConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.output, last_bias=True)
        self.prototypes = nn.Parameter(normalize(torch.randn(config.prototypes, config.output), dim=1))
        self.queue = Queue(config.queue, config.views.count * config.output) if config.queue else None  # a row an image: z of its global crops

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z = self._embedded(views)
        logits = list(cosines(z, self.prototypes).chunk(len(views)))
        own = torch.cat(z.detach().chunk(len(views))[: self.config.views.count], dim=1)
        codes = self._codes(own, progress)
        if self.training and self.queue is not None:
            self.queue.push(own)
        return {"swav": swapped_prediction(codes, logits, self.config.temperature)}

    def before_step(self, progress: float) -> None:
        if progress < self.config.freeze_prototypes:
            self.prototypes.grad = None

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.prototypes.copy_(normalize(self.prototypes, dim=1))

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """Codes of the sample as the teacher's distributions, of temperature epsilon, and the softmax as the student's: `measures.distillation`.

        `prototypes_used` is of the softmax: codes are made to use them all.
        """
        count = self.config.views.count
        logits = cosines(self._embedded(views[:count]), self.prototypes)
        codes = torch.cat([sinkhorn(crop, self.config.epsilon, self.config.iterations) for crop in logits.chunk(count)])
        seen = distillation(codes, logits, self.config.temperature, sharpest=self.config.epsilon, views=count)
        return {**seen, "prototypes_used": distribution(logits.softmax(dim=1))["prototypes_used"]}

    def _embedded(self, views: list[Tensor]) -> Tensor:
        """z of all views, one view after the other."""
        count = self.config.views.count
        crops = [torch.cat(group) for group in (views[:count], views[count:]) if group]
        return normalize(self.projector(torch.cat([features.pooled for features in self.encoder.multi_crop(crops)])), dim=1)

    @torch.no_grad()
    def _codes(self, own: Tensor, progress: float) -> list[Tensor]:
        """q of each global crop, balanced over the samples of all processes and the queue; `own` are this process's, as the queue's rows."""
        everyone = gather(own)
        if self.queue is not None and progress >= self.config.queue_start and self.queue.is_full:
            everyone = torch.cat([everyone, self.queue.rows.to(own.dtype)])
        scores = [cosines(crop, self.prototypes) for crop in everyone.chunk(self.config.views.count, dim=1)]
        return [sinkhorn(crop, self.config.epsilon, self.config.iterations)[rank() * len(own) :][: len(own)] for crop in scores]
