"""Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (I-JEPA). Assran, Duval, Misra, Bojanowski, Vincent,
Rabbat, LeCun, Ballas, 2023. https://arxiv.org/abs/2301.08243

From a context block of an image, of which the targets are cut out, a narrow predictor tells what a teacher says of four target blocks; the
teacher sees all of the image. No pixels and no augmentations: what is alike in features is left to be learned.

Symbols: s_x, s_y, features of student and teacher; s^_y, the predictor's; B_x, B_i, patches of the context and of target i.

Differs from the paper:
- The encoder is timm's: positions are learned or rotary where the authors' are fixed sines and cosines. Its prefix tokens go into the
  predictor beside the context, so that a CLS token, which the authors' encoder has not, learns too; they evaluate the mean of patches.
- No patch of a target is ever in the context; the authors let it in where fewer than 10 patches would be left after 20 tries. Here a
  context takes patches outside of its square then, and targets are small enough that there are some.
- Contexts are cut at random to the shortest one's length; the authors' lose their lowest rows. The shortest is of the batch of all
  devices, where theirs is of one device's. Size and shape of a target are drawn apart; in their code they are one number.
- An encoder that pools by average or attention keeps the norm or attention of its pooling as it started: no patch's prediction uses it.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import IJEPA as IJEPAConfig
from ssl_tasks.data.blocks import context_and_targets, least_context
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.latent import layer_normalised, smooth_l1
from ssl_tasks.measures import spread
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.predictor import PatchPredictor
from ssl_tasks.schedules import linear


class IJEPA(Method):
    """Student with a predictor, and teacher; the teacher's encoder is what is exported.

    Raises:
        UserError: where the encoder cuts the image in too few patches for the targets and a context.
    """

    def __init__(self, config: IJEPAConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size = encoder.config.image_size
        self.grid = encoder.grid(size)
        if self.grid < 3 or self.grid**2 - least_context(self.grid) < config.targets:
            raise UserError(
                f"i_jepa: encoder.image_size {size} is {self.grid} x {self.grid} patches, too few for a context and {config.targets} targets: "
                "take a smaller encoder.patch_size"
            )
        encoder.patches_only()
        widths = config.predictor_width, config.predictor_depth, config.predictor_heads
        self.predictor = PatchPredictor(encoder.width, encoder.prefix_tokens, self.grid, *widths)
        self.teacher = Teacher(encoder)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image; the numbers of the patches of its context (B, n), and of its targets (B, T, m)."""
        config = self.config
        crops = augment(config.views, images, self.encoder.config.image_size, draw)
        return [*crops, *context_and_targets(draw, self.grid, config.targets, config.target_scale, config.target_aspect, config.context_scale)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, context, targets = views
        features = self.targets(images)
        wanted = features.gather(1, targets.flatten(1)[..., None].expand(-1, -1, features.shape[2]))
        return {"i_jepa": smooth_l1(self.predicted(images, context, targets).flatten(1, 2), wanted, beta=1.0)}

    def predicted(self, images: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        """s^_y of the patches of each target, (B, T, m, width)."""
        said: Tensor = self.predictor(self.encoder.visible(images, context), context, targets)
        return said

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """s_y of every patch (B, N, width), normalised over its dimensions."""
        return layer_normalised(cast(TimmEncoder, self.teacher.network).tokens(images).patches)

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.encoder, linear(progress, self.config.momentum, self.config.momentum_end))

    def exported(self) -> nn.Module:
        return self.teacher.network

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How unlike the targets of different patches are: see `measures.spread`."""
        return spread(self.targets(views[0]))
