"""Exploring Target Representations for Masked Autoencoders (dBOT). Liu, Zhou, Kong, Lin, Ji, 2022. https://arxiv.org/abs/2209.03917

The student sees part of an image's patches and predicts what the frozen teacher, who sees all, says of the others and of the image.
The paper bootstraps: the student becomes the teacher of the next stage, whose student begins with random weights. Here that is a
distill stage whose `teacher` is a student of another one; its first teacher may be any encoder.

As in the paper the teacher's features are standardised, each less the mean of its numbers and over their standard deviation, and the
distance is smooth L1 with beta 2, a mean over the masked patches and the CLS token: https://github.com/liuxingbin/dbot (`models_mae.py`).

Differs from the paper:
- A mask token stands for a masked patch in the student itself, and linear layers predict: the symmetric form that the paper has for CLIP
  as the teacher. Its other form drops the masked patches and has a decoder of 8 blocks.
- What is standardised comes out of the teacher's last norm. The paper leaves that norm out, and with it its gain and bias.
- The prediction of the image is read from what the student pools, by a layer of its own, as dimensions may differ.
- A teacher whose grid of patches is not the student's has its features resampled to it, bilinearly: masks are of the student's patches.
"""

import torch
from torch import Tensor, nn

from schemas.distillers import MaskedFeature as MaskedFeatureConfig
from schemas.errors import UserError
from ssl_tasks.data.masks import MASKS
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.feature import masked_smooth_l1, smooth_l1
from ssl_tasks.losses.masked import standardised
from ssl_tasks.method import Terms
from ssl_tasks.nn.maps import as_places, resampled


class MaskedFeature(Objective):
    """Two linear layers that predict the teacher's features, of patches and of the image.

    Attributes:
        masked: patches of an image that the student does not see.
    """

    config: MaskedFeatureConfig
    places = True

    def __init__(self, config: MaskedFeatureConfig, setting: Setting) -> None:
        """Raises UserError where the student has too few patches to mask, or the teacher a single place."""
        super().__init__(config, setting)
        assert setting.teacher
        self.grid = setting.student.grid
        patches = self.grid[0] * self.grid[1]
        if patches < 2:
            raise UserError("masked_feature masks part of the student's patches, and there is one: raise image_size, or lower patch_size")
        if setting.teacher.grid == (1, 1):
            raise UserError("masked_feature predicts what the teacher says of places, and it has a single one: take a teacher with a grid, such as a ViT")
        self.masked = min(max(1, round(config.mask_ratio * patches)), patches - 1)
        self.of_patches = nn.Linear(setting.student.width, setting.teacher.width)
        self.of_image = nn.Linear(setting.student.dim, setting.teacher.dim)

    def mask(self, lesson: Lesson, grid: int) -> Tensor:
        draw = lesson.draw("masked_feature")
        counts = torch.full((len(lesson.rows),), self.masked, device=lesson.rows.device)
        return torch.cat([MASKS[self.config.masking](draw, grid, counts) for _ in range(lesson.globals)])

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        assert student.places is not None
        patches, image = as_places(resampled(lesson.teacher.map(), self.grid)), lesson.teacher.pooled
        mask, beta, share = self.mask(lesson, self.grid[0]), self.config.beta, 1 / (1 + self.masked)
        return {
            "masked_patches": (1 - share) * masked_smooth_l1(self.of_patches(student.places), standardised(patches), mask, beta),
            "masked_image": share * smooth_l1(self.of_image(student.pooled), standardised(image), beta),
        }
