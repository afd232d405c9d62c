"""DINOv3. Siméoni, Vo, Seitzer et al., 2025. https://arxiv.org/abs/2508.10104, section 4

An image's patches, or places, are as similar to each other as the teacher's are: the squared difference of the two matrices of their
cosines. Features may turn freely, and dimensions may differ, so that nothing stands between the networks.

Differs from the paper:
- The teacher is another network that was trained before, not an earlier snapshot of the same one, and the loss may stand alone. It says
  how places lie to each other, not where: features that are read one by one need another method beside it.
- Where the grids differ, the finer one is resampled to the coarser, bilinearly: places have no partner otherwise. Not the other way
  round, as between the places that a network has there is nothing that it says: similar neighbours would come of the resampling.
  (The paper so brings a teacher of larger images to the student's grid, bicubically.)
- Mean squares over pairs of places, as in the authors' code, not their sum.
"""

from schemas.distillers import Gram as GramConfig
from schemas.errors import UserError
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.gram import gram
from ssl_tasks.method import Terms
from ssl_tasks.nn.maps import as_places, resampled


class Gram(Objective):
    """No network of its own.

    Attributes:
        grid: rows and columns of the coarser of both networks' places.
    """

    config: GramConfig
    places = True

    def __init__(self, config: GramConfig, setting: Setting) -> None:
        """Raises UserError where either network has a single place."""
        super().__init__(config, setting)
        assert setting.teacher
        self.grid = min(setting.student.grid, setting.teacher.grid)
        if self.grid == (1, 1):
            whose = "student" if setting.student.grid == (1, 1) else "teacher"
            raise UserError(f"gram compares an image's places with each other, and the {whose} has one: raise its image_size, or take a finer stem or patch")

    @classmethod
    def wants_pooled(cls, _config: GramConfig) -> bool:
        return False

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        own, theirs = (as_places(resampled(seen.map(), self.grid)) for seen in (student, lesson.teacher))
        return {"gram": gram(own, theirs)}
