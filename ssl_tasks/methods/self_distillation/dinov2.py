"""DINOv2: Learning Robust Visual Features without Supervision. Oquab, Darcet, Moutakanni et al., 2023.
https://arxiv.org/abs/2304.07193

DINO's loss of crops and iBOT's of masked patches, each with a head of its own, and targets that Sinkhorn-Knopp balances.
KoLeo keeps the images of a batch from crowding together on the sphere.

The encoder is a choice beside the method: `vit_small_patch14_reg4_dinov2` has LayerScale and registers; on other ViTs they and SwiGLU are
`options` such as `{init_values: 1e-5, reg_tokens: 4, drop_path_rate: 0.3}`.

Differs from the paper:
- KoLeo's neighbours are looked for in the whole batch; the authors look among those of one GPU.
- The share of a crop that is masked is exact: single patches make up what blocks leave, as in DINOv3.
- Sinkhorn-Knopp balances all patches of the batch with float32 logarithms; the authors' exponentiates.
- The gain of the prototypes does not decay. Weight decay does not rise, unless the optimizer's schedule makes it.
- One learning rate for all layers, and gradients are clipped as a whole, unless `train` says otherwise.
- The phase at a high resolution is a further stage that goes on from this one with a larger `image_size`.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from schemas.methods import DINOv2 as DINOv2Config
from ssl_tasks.data.draw import Draw
from ssl_tasks.distributed import gather
from ssl_tasks.losses.koleo import koleo
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.patch_distillation import PatchDistillation


class DINOv2(Method):
    """Student and teacher with a head for crops and one for patches; the teacher's encoder is what is exported."""

    def __init__(self, config: DINOv2Config, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        crop_head = PrototypeHead(encoder.dim, config.hidden, config.bottleneck, config.prototypes, length="trained")
        patch_head = PrototypeHead(encoder.width, config.patch_hidden, config.patch_bottleneck, config.patch_prototypes, length="trained")
        self.pair = PatchDistillation(config, encoder, crop_head, patch_head)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return self.pair.views(images, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        losses = self.pair(views, progress)
        crops = losses.student.pooled.chunk(self.config.views.count)
        return {
            "dino": losses.crops,
            "ibot": self.config.patch_weight * losses.patches,
            "koleo": self.config.koleo * sum(koleo(gather(crop)) for crop in crops),
        }

    def before_step(self, progress: float) -> None:
        self.pair.hold_prototypes(progress)

    def after_step(self, progress: float) -> None:
        self.pair.follow(progress)

    def exported(self) -> nn.Module:
        return self.pair.teacher_encoder.network

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        return self.pair.monitored(views)
