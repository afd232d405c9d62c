"""FitNets: Hints for Thin Deep Nets. Romero, Ballas, Kahou, Chassang, Gatta, Bengio, 2015. https://arxiv.org/abs/1412.6550

A layer of the student, its guided layer, is made to say what a layer of the teacher says, its hint: a convolution, which is dropped
afterwards, regresses the one from the other.

Differs from the paper:
- The whole student learns in one stage. The paper trains the student up to the guided layer first, and then all of it from class
  scores: let a stage with another method follow, whose students have this one's as `init_from`.
- The regressor is linear: no rectifier follows, as hints of other networks than the paper's may be negative.
- The regressor follows the sizes, as in https://github.com/HobbitLong/RepDistiller (`models/util.py`, `ConvReg`); the paper's is a
  convolution without padding, as large as brings the student's map to the teacher's size. Sizes that no such convolution joins are
  resampled, bilinearly.
- Mean squares, not half their sum. Their weight beside class scores is 100 in RepDistiller.
"""

import torch
from torch import Tensor, nn

from schemas.distillers import FitNets as FitNetsConfig
from ssl_tasks.distill.network import PLACES, Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.feature import hint
from ssl_tasks.method import Terms
from ssl_tasks.nn.maps import resampled


class FitNets(Objective):
    """A regressor a pair of layers; their losses are added."""

    config: FitNetsConfig

    def __init__(self, config: FitNetsConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        assert setting.teacher
        self.layers = [(tap.student, tap.teacher) for tap in config.layers] or [(PLACES, PLACES)]
        self.regressors = nn.ModuleList(Regressor(setting.student.map(guided), setting.teacher.map(hinting)) for guided, hinting in self.layers)

    @classmethod
    def wants_places(cls, config: FitNetsConfig) -> bool:
        return not config.layers

    @classmethod
    def wants_pooled(cls, _config: FitNetsConfig) -> bool:
        return False

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        pairs = zip(self.regressors, self.layers, strict=True)
        return {"hint": torch.stack([hint(regressor(student.map(guided)), lesson.teacher.map(hinting)) for regressor, (guided, hinting) in pairs]).sum()}


class Regressor(nn.Module):
    """From maps of one shape (C, H, W) to maps of another."""

    def __init__(self, shape: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
        super().__init__()
        (channels, *sides), (hints, *self.grid) = shape, wanted
        if sides == [2 * side for side in self.grid]:
            self.convolution: nn.Module = nn.Conv2d(channels, hints, 3, stride=2, padding=1)
        elif [2 * side for side in sides] == self.grid:
            self.convolution = nn.ConvTranspose2d(channels, hints, 4, stride=2, padding=1)
        else:
            self.convolution = nn.Conv2d(channels, hints, 1)

    def forward(self, features: Tensor) -> Tensor:
        rows, columns = self.grid
        return resampled(self.convolution(features), (rows, columns))
