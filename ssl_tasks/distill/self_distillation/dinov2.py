"""DINOv2's and DINOv3's students. Oquab, Darcet, Moutakanni et al., 2023, section 5; Simeoni, Vo, Seitzer et al., 2025, section 5.2.
https://arxiv.org/abs/2304.07193 https://arxiv.org/abs/2508.10104

The objective that trained the teacher goes on with the teacher frozen: of each crop, and of some patches of the global crops, the student
gives the distribution over the teacher's prototypes that the teacher gives. The student's heads begin from nothing and have as many
prototypes, so that no layer between the two is needed. KoLeo spreads the student's features. Nothing is masked.

The students that the authors hand over are moving averages: set `ema` of a student, such as to 0.994.

Differs from the papers:
- The patch loss looks at a share of every global crop's patches, drawn evenly; the authors at those that their masks would hide, blocks of
  10 to 50% of half of the crops.
- The patches of a student whose grid is another one, such as a ConvNet's, are resampled to the teacher's, bilinear, as DINOv3's ConvNeXts' are.
- The patches' temperature is that of the crops; KoLeo's neighbours are looked for in the whole batch.
"""

from typing import Literal

import torch
from torch import Tensor

from schemas.distillers import DINOv2Students as DINOv2StudentsConfig
from schemas.errors import UserError
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.distributed import gather
from ssl_tasks.losses.koleo import koleo
from ssl_tasks.losses.self_distillation import dino, masked_patches
from ssl_tasks.method import Terms
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.maps import as_map, as_places, resampled
from ssl_tasks.nn.patch_distillation import Heads
from ssl_tasks.nn.targets import Targets


class DINOv2Students(Objective):
    """Heads of the student's, and targets made of what the teacher's frozen heads say."""

    config: DINOv2StudentsConfig
    heads = True

    def __init__(self, config: DINOv2StudentsConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        assert isinstance(setting.heads, Heads)
        assert setting.teacher
        if config.patch_weight and setting.heads.patches is None:
            raise UserError("dinov2: the teacher has no head for patches, as its method looked at none: set patch_weight to 0")
        self._teacher_heads, self._grid = (setting.heads,), setting.teacher.grid  # in a tuple: they are no part of the student's state
        self.crop_head = _like(setting.heads.crops, setting.student.dim, config.hidden)
        self.crop_targets = Targets(config, self.crop_head.prototypes.out_features, config.teacher_temperature)
        self.patch_head: PrototypeHead | None = None
        if config.patch_weight and setting.heads.patches:
            self.patch_head = _like(setting.heads.patches, setting.student.width, config.hidden)
            self.patch_targets = Targets(config, self.patch_head.prototypes.out_features, config.teacher_temperature)

    @classmethod
    def wants_places(cls, config: DINOv2StudentsConfig) -> bool:
        return config.patch_weight > 0

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        count, seen = lesson.globals, lesson.teacher.pooled
        logits = lesson.once("dinov2: crops", lambda: self._said("crops", seen))
        targets = self.crop_targets(logits, progress).chunk(count)
        crops = torch.cat([student.pooled] if student.local is None else [student.pooled, student.local])
        own = self.crop_head(crops).split(len(student.pooled) // count)
        if self.training:
            self.crop_targets.move(logits)
        terms = {"dinov2_crops": dino(list(targets), list(own), self.config.student_temperature)}
        if self.patch_head is not None:
            terms["dinov2_patches"] = self.config.patch_weight * self._of_patches(self.patch_head, student, lesson, progress)
        if self.config.koleo:
            terms["dinov2_koleo"] = self.config.koleo * torch.stack([koleo(gather(crop)) for crop in student.pooled.chunk(count)]).sum()
        return terms

    def before_step(self, progress: float) -> None:
        if progress < self.config.freeze_last_layer:
            for head in (self.crop_head, self.patch_head):
                if head is not None:
                    head.hold_prototypes()

    def _of_patches(self, head: PrototypeHead, student: Seen, lesson: Lesson, progress: float) -> Tensor:
        """iBOT's loss at the patches that are looked at."""
        assert lesson.teacher
        assert lesson.teacher.places is not None
        assert student.places is not None
        places, share = lesson.teacher.places, self.config.patches
        chosen = lesson.once(f"dinov2: which patches, {share}", lambda: _chosen(lesson, places.shape[1], share))
        logits = lesson.once(f"dinov2: patches, {share}", lambda: self._said("patches", _at(places, chosen)))
        own = head(_at(as_places(resampled(as_map(student.places), self._grid)), chosen))
        targets = self.patch_targets(logits, progress)
        if self.training:
            self.patch_targets.move(logits)
        crops = torch.arange(len(chosen), device=own.device).repeat_interleave(chosen.shape[1])
        return masked_patches(targets, own, self.config.student_temperature, crops, len(chosen))

    @torch.no_grad()
    def _said(self, of: Literal["crops", "patches"], features: Tensor) -> Tensor:
        """Logits of one of the teacher's heads, which are brought to where the student's are, and made as precise."""
        like = self.crop_targets.center
        logits: Tensor = self._teacher_heads[0].to(like).get_submodule(of)(features.to(like.dtype))
        return logits


def _like(theirs: PrototypeHead, dim: int, hidden: int) -> PrototypeHead:
    """A new head over as many prototypes, of the same kind."""
    length: Literal["fixed", "trained", "free"] = "free" if not theirs.normalised else "fixed" if theirs.gain is None else "trained"
    return PrototypeHead(dim, hidden, theirs.prototypes.in_features, theirs.prototypes.out_features, length)


def _chosen(lesson: Lesson, patches: int, share: float) -> Tensor:
    """Numbers (V x B, n) of the patches of each global crop that are looked at."""
    drawn = lesson.draw("dinov2: patches").uniforms(lesson.globals, patches)
    return drawn.argsort(dim=-1)[..., : max(1, round(share * patches))].transpose(0, 1).flatten(0, 1)


def _at(places: Tensor, chosen: Tensor) -> Tensor:
    """Places (n, N, D) at the chosen numbers (n, m), (n x m, D)."""
    return places.gather(1, chosen[..., None].expand(-1, -1, places.shape[2])).flatten(0, 1)
