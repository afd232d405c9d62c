"""iBOT: Image BERT Pre-Training with Online Tokenizer. Zhou, Wei, Wang, Shen, Xie, Yuille, Kong, 2022.
https://arxiv.org/abs/2111.07832

Besides DINO's loss of crops, the student predicts at each patch that it sees masked what the teacher, which sees all of the crop,
says there. So the teacher is a tokenizer of patches that is learned on the way.

Symbols: u, v, the global crops; u^, v^, the same masked; m, a mask; P_s, P_t, distributions of student and teacher.

Differs from the paper:
- Of the global crops exactly half are masked, their shares evenly spread over the range; the authors draw each on its own. A block
  covers four patches at least, and single patches make up the exact number; the authors' blocks cover a ninth of the grid at least.
- The center of patches is that of the masked ones; the authors' code takes all, which puts every patch through the head.
- The crops' teacher temperature stays at 0.04 by default, as in the authors' code; their published runs let it rise to 0.07.
- Weight decay does not rise over the training, unless the optimizer's schedule makes it.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from schemas.methods import IBOT as IBOTConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.patch_distillation import PatchDistillation


class IBOT(Method):
    """Student and teacher with a head for crops and patches; the teacher's encoder is what is exported."""

    def __init__(self, config: IBOTConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        widths = config.hidden, config.bottleneck, config.prototypes
        own = None if config.shared_head else PrototypeHead(encoder.width, *widths)
        self.pair = PatchDistillation(config, encoder, PrototypeHead(encoder.dim, *widths), own)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return self.pair.views(images, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        losses = self.pair(views, progress)
        return {"dino": losses.crops, "ibot": self.config.patch_weight * losses.patches}

    def before_step(self, progress: float) -> None:
        self.pair.hold_prototypes(progress)

    def after_step(self, progress: float) -> None:
        self.pair.follow(progress)

    def exported(self) -> nn.Module:
        return self.pair.teacher_encoder.network

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        return self.pair.monitored(views)
