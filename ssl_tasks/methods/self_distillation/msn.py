"""Masked Siamese Networks for Label-Efficient Learning (MSN). Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat, Ballas, 2022.
https://arxiv.org/abs/2204.07141
The Hidden Uniform Cluster Prior in Self-Supervised Learning (PMSN). Assran, Balestriero, Duval, Bordes, Misra, Bojanowski, Vincent, Rabbat,
Ballas, 2022. https://arxiv.org/abs/2210.07277

Anchor views, crops of which patches are dropped and small crops, are assigned to the same prototypes as a whole view of the image that a
teacher sees. That the target is sharpened keeps assignments from becoming uniform; that all prototypes are used alike (MSN), or as a
power law says (PMSN), keeps them from becoming one.

Symbols: z, embeddings; q, prototypes; p, p+, assignments of anchors and of the target; tau, the temperature; p_, the mean assignment of a batch.

Differs from the paper:
- Patches that go in differ between images; in the authors' code they are the same for all images of a device's batch.
- The mean assignment is over all devices and all anchors; the power law's ranks are those of the prototypes, which are all alike at first.
- The target's Sinkhorn-Knopp is computed on logarithms; the authors' entropy term, of weight 0, is left out.
- Prototypes are weighed down as other matrices are; the authors except them. Their length does not count.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import MSN as MSNConfig
from schemas.methods import PMSN as PMSNConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, mean, rank
from ssl_tasks.losses.masked_siamese import agreement, log_assignments, power_law, usage
from ssl_tasks.losses.sinkhorn import sinkhorn
from ssl_tasks.measures import distillation
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.schedules import linear


class MSN(Method):
    """Student and teacher, each an encoder and a head, and prototypes; the teacher's encoder is what is exported.

    Attributes:
        kept: patches of a global anchor that go in, the same number in each.
        prior: shares (K,) in which prototypes are to be used.

    Raises:
        UserError: where no patch would be left of an anchor.
    """

    prior: Tensor

    def __init__(self, config: MSNConfig | PMSNConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size = encoder.config.image_size
        self.grid = encoder.grid(size)
        self.kept = int((1 - config.mask_ratio) * self.grid**2 + 1e-9)
        if not self.kept:
            raise UserError(f"{config.kind}: method.mask_ratio {config.mask_ratio} leaves nothing of {self.grid**2} patches of {size} px: lower it")
        self.head = nn.Sequential(
            *(nn.Linear(encoder.dim, config.hidden), nn.BatchNorm1d(config.hidden), nn.GELU()),
            *(nn.Linear(config.hidden, config.hidden), nn.BatchNorm1d(config.hidden), nn.GELU()),
            nn.Linear(config.hidden, config.output),
        )
        self.prototypes = nn.Parameter((2 * torch.rand(config.prototypes, config.output) - 1) * config.output**-0.5)
        self.teacher_encoder, self.teacher_head = Teacher(self.encoder), Teacher(self.head, batch_statistics=True)
        exponent = config.power_law if isinstance(config, PMSNConfig) else 0.0
        self.register_buffer("prior", power_law(config.prototypes, exponent), persistent=False)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """The target, global and local anchors, then the numbers of the patches that go in (B, global anchors, n)."""
        config = self.config.views
        crops = augment(config, images, self.encoder.config.image_size, draw)
        counts = torch.full((len(images),), self.kept, device=images.device)
        seen = [random_masks(draw, self.grid, counts).int().argsort(dim=1, descending=True, stable=True)[:, : self.kept] for _ in range(config.count - 1)]
        return [*crops, torch.stack(seen, dim=1)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        log_p = self.assigned(views)
        used = mean(log_p.exp().mean(dim=(0, 1)))
        return {"agreement": agreement(log_p, self.targets(views[0])), "usage": self.config.usage_weight * usage(used, self.prior)}

    def assigned(self, views: list[Tensor]) -> Tensor:
        """Log p of every anchor, (anchors, B, K)."""
        count, local = self.config.views.count, self.config.views.local_count
        crops, kept = [torch.cat(views[1:count])], [views[-1].transpose(0, 1).flatten(0, 1), None]
        if local:
            crops.append(torch.cat(views[count : count + local]))
        seen = self.encoder.multi_crop(crops, kept=kept[: len(crops)])
        z = self.head(torch.cat([features.pooled for features in seen]))
        return log_assignments(z, self.prototypes, self.config.temperature).view(count - 1 + local, len(views[0]), -1)

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """p+ of whole views, (B, K): sharpened, and balanced over the images of all processes."""
        config = self.config
        log_p = log_assignments(self.teacher_head(self.teacher_encoder(images)), self.prototypes, config.temperature * config.sharpening)
        if not config.sinkhorn_iterations:
            return log_p.exp()
        return sinkhorn(gather(log_p), 1.0, config.sinkhorn_iterations)[rank() * len(images) :][: len(images)]

    def after_step(self, progress: float) -> None:
        momentum = linear(progress, self.config.momentum, self.config.momentum_end)
        self.teacher_encoder.follow(self.encoder, momentum)
        self.teacher_head.follow(self.head, momentum)

    def exported(self) -> nn.Module:
        return self.teacher_encoder.network

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """The targets and the student's assignments of whole views: `measures.distillation`. The gain is of `views.count` global crops."""
        config, crops = self.config, torch.cat(views[: self.config.views.count])
        scale = config.temperature * config.sharpening
        targets = log_assignments(self.teacher_head(self.teacher_encoder(crops)), self.prototypes, scale).exp()
        logits = log_assignments(self.head(self.encoder(crops)), self.prototypes, 1.0)
        return distillation(targets, logits, config.temperature, sharpest=scale, views=config.views.count)
