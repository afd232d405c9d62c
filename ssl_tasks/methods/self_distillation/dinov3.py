"""DINOv3. Simeoni, Vo, Seitzer, Baldassarre, Oquab et al., 2025.
https://arxiv.org/abs/2508.10104

DINOv2, trained for longer. As crops get better patches get worse, so late in training the cosines between an image's patches are tied
to those of the Gram teacher: the teacher as it was when its patches were good, copied anew a few times.

Symbols: X_S, X_G, normalised patch features of student and Gram teacher; the loss is the distance of X_S X_S' from X_G X_G'.

The encoder is a choice beside the method: `{name: vit_small_patch16_dinov3, options: {global_pool: token, rope_rescale_coords: 2}}` has
rotary positions, drawn larger and smaller by up to 2 in each step of the student, registers and LayerScale. The authors' phases are
stages that continue one another: pretraining with `gram: 0`, whose first snapshot is kept, then Gram anchoring with `gram_start: 0`, then
a high resolution with `gram_snapshots: []`, which keeps the Gram teacher of the phase before.

Differs from the paper:
- What `dinov2.py` says, but that the gain of the prototypes is gone here as in the paper.
- Gram anchoring has its full weight at once; the authors raise it within one epoch of a thousand steps.
- Crops of a phase have one size; the authors mix five at high resolution, and then look for KoLeo's neighbours in groups of 16.
- Rotary positions are rescaled once a forward of each crop size, by each process on its own; the authors' once a block.
- Registers' and local crops' norms are those of all tokens; the 7B gives local crops a norm of their own.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from schemas.methods import DINOv3 as DINOv3Config
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather
from ssl_tasks.losses.gram import gram
from ssl_tasks.losses.koleo import koleo
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.patch_distillation import PatchDistillation
from ssl_tasks.nn.snapshot import Snapshot

UNDISTORTED = {"count": 1, "local_count": 0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "solarize": 0.0, "noise": 0.0}


class DINOv3(Method):
    """DINOv2's student and teacher, and a Gram teacher; the teacher's encoder is what is exported."""

    def __init__(self, config: DINOv3Config, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        crop_head = PrototypeHead(encoder.dim, config.hidden, config.bottleneck, config.prototypes, length="free")
        patch_head = PrototypeHead(encoder.width, config.patch_hidden, config.patch_bottleneck, config.patch_prototypes, length="free")
        self.pair = PatchDistillation(config, encoder, crop_head, patch_head)
        self.gram = Snapshot(self.exported(), config.gram_snapshots)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """As DINOv2's; behind them the Gram teacher's crops where they have a size of their own."""
        if not self.config.gram or not self.config.gram_size:
            return self.pair.views(images, draw)
        start = draw.generator.get_state()
        larger = self._gram_crops(images, draw, self.config.gram_size)
        draw.generator.set_state(start)
        return [*self.pair.views(images, draw), *larger]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        losses = self.pair(views, progress, self.config.local_weight)
        crops = losses.student.pooled.chunk(self.config.views.count)
        terms = {
            "dino": losses.crops,
            "ibot": self.config.patch_weight * losses.patches,
            "koleo": self.config.koleo * sum(koleo(gather(crop)) for crop in crops),
        }
        if self._anchors(progress):
            terms["gram"] = self.config.gram * gram(losses.student.patches, self._gram_targets(views))
        elif self.config.gram:
            terms["gram"] = losses.crops.new_zeros(())
        return terms

    def before_step(self, progress: float) -> None:
        self.pair.hold_prototypes(progress)

    def after_step(self, progress: float) -> None:
        self.pair.follow(progress)
        self.gram.renew(self.exported(), progress, needed=self._anchors(progress))

    def exported(self) -> nn.Module:
        return self.pair.teacher_encoder.network

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        return self.pair.monitored(views)

    def _anchors(self, progress: float) -> bool:
        return self.config.gram > 0 and progress >= self.config.gram_start

    @torch.no_grad()
    def _gram_targets(self, views: list[Tensor]) -> Tensor:
        """The Gram teacher's patches of the global crops, (global crops * B, N, width), on the student's grid."""
        count, network = self.config.views.count, cast(TimmEncoder, self.gram.newest(self.exported()))
        crops = views[-count:] if self.config.gram_size else views[:count]
        patches = network.tokens(torch.cat(crops)).patches
        own, wanted = (network.grid(crop.shape[-1]) for crop in (crops[0], views[0]))
        if own == wanted:
            return patches
        maps = patches.mT.reshape(len(patches), -1, own, own)
        return interpolate(maps, size=(wanted, wanted), mode="bicubic", align_corners=False).flatten(2).mT

    def _gram_crops(self, images: Tensor, draw: Draw, size: int) -> list[Tensor]:
        """The global crops again, of another size and undistorted: each is drawn from the same state, and then passed over."""
        config, crops = self.config.views, []
        for blur, solarize in list(zip(config.probabilities("blur"), config.probabilities("solarize"), strict=True))[: config.count]:
            start = draw.generator.get_state()
            crops += augment(config.model_copy(update=UNDISTORTED), images, size, draw)
            draw.generator.set_state(start)
            alone = config.model_copy(update={"count": 1, "local_count": 0, "blur": blur, "solarize": solarize})
            augment(alone, images[..., :1, :1], self.pair.encoder.config.image_size, draw)  # of one pixel: only what it draws matters
        return crops
