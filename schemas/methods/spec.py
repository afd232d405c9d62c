"""MethodSpec: what every pretraining method's config says of itself besides its parameters."""

from typing import ClassVar, Literal

from schemas.encoders import Architecture
from schemas.spec import Spec
from schemas.views import Views

Family = Literal["pretext", "contrastive", "decorrelation", "clustering", "self-distillation", "masked"]
Need = Literal["negatives", "queue", "memory bank", "teacher", "colour", "tokenizer"]


class MethodSpec(Spec):
    """A pretraining method. Constants of the class are facts of its paper, for `sslflow methods`, checks and warnings."""

    family: ClassVar[Family]
    year: ClassVar[int]
    exports: ClassVar[str]
    """Which part is handed over: "encoder", "teacher encoder", or what a head adds to it."""
    architectures: ClassVar[tuple[Architecture, ...]] = ()
    """Encoders that can do what it asks of them, such as to mask patches; any where empty."""
    needs: ClassVar[tuple[Need, ...]] = ()
    """What it holds or sees besides the encoder: other images to tell apart, a moving-average teacher, colours."""
    takes: ClassVar[tuple[Literal["images", "tokenizer"], ...]] = ()
    """What it is built with besides config and encoder: `images`, how many are trained on; `tokenizer`, a trained network."""
    smallest_batch: ClassVar[int] = 0
    """Below so many images a step its paper, or a study of it, finds it weak; 0 where the batch hardly matters."""
    views: Views
