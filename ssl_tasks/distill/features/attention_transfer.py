"""Paying More Attention to Attention. Zagoruyko, Komodakis, 2017. https://arxiv.org/abs/1612.03928

Where in the image a layer's activations are large is its attention map: the mean of their squares over channels, brought to length 1.
The student's maps are made to be the teacher's. Channels may differ, so that nothing stands between the networks, and no label is needed.

Differs from the paper:
- Equation 2 has beta / 2 times the length of the difference of two maps, with beta 1000 over the batch size and the map's places.
  As in the authors' code the squared difference is averaged over images and places, and `beta` is the weight of that. So the
  gradient fades as the maps come near each other, where that of a length keeps its size.
- The larger of two maps is average-pooled to the smaller; the paper takes maps of one size, or interpolates them.
- The authors add the loss to that of class scores: let it stand beside another method. Alone it says nothing of the features' directions.
- Of a ViT, which the paper does not know, the map is that of the patches before the last norm: behind it all have the same length.
"""

import torch

from schemas.distillers import AttentionTransfer as AttentionTransferConfig
from schemas.errors import UserError
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.attention import attention_transfer
from ssl_tasks.method import Terms


class AttentionTransfer(Objective):
    """Pairs of layers; their losses are added."""

    config: AttentionTransferConfig

    def __init__(self, config: AttentionTransferConfig, setting: Setting) -> None:
        """Raises UserError where the maps of a pair have no size of more than one place in common."""
        super().__init__(config, setting)
        assert setting.teacher
        for tap in config.layers:
            (_, *sides), (_, *teachers) = setting.student.map(tap.student), setting.teacher.map(tap.teacher)
            if max(map(min, sides, teachers)) == 1:
                raise UserError(
                    f"attention_transfer compares where in an image activations are large: layer '{tap.student}' of the student ({_size(sides)}) and "
                    f"'{tap.teacher}' of the teacher ({_size(teachers)}) have one place in common; name other layers, or raise image_size"
                )

    @classmethod
    def wants_pooled(cls, _config: AttentionTransferConfig) -> bool:
        return False

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        maps = [(student.map(tap.student), lesson.teacher.map(tap.teacher)) for tap in self.config.layers]
        return {"attention": self.config.beta * torch.stack([attention_transfer(own, theirs) for own, theirs in maps]).sum()}


def _size(sides: list[int]) -> str:
    return " x ".join(map(str, sides))
