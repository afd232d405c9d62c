"""MethodSpec: what every pretraining method's config says of itself besides its parameters."""

from typing import ClassVar, Literal

from schemas.spec import Spec
from schemas.views import Views


class MethodSpec(Spec):
    """A pretraining method. Constants of the class are facts of its paper, for `sslflow methods`, checks and warnings."""

    family: ClassVar[Literal["contrastive", "decorrelation", "self-distillation", "clustering", "masked"]]
    year: ClassVar[int]
    exports: ClassVar[str]
    """Which part is handed over: "encoder", "teacher encoder", or what a head adds to it."""
    masks_patches: ClassVar[bool] = False
    """Whether it masks or drops patches, which only a ViT has."""
    smallest_batch: ClassVar[int] = 0
    """Below so many images a step its paper, or a study of it, finds it weak; 0 where the batch hardly matters."""
    views: Views
