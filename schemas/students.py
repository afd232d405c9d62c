"""A student: a network, and whatever of its training is its own."""

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, PositiveFloat, model_validator
from pydantic_core import CoreSchema

from schemas.artifacts import Takes
from schemas.distillers import Distillers, DistillerSpec
from schemas.encoders import Encoder
from schemas.methods import Method
from schemas.spec import Kinded, Spec
from schemas.starts import StudentStart
from schemas.training import Train

ALONE = "_alone"
"""What the name of a baseline ends with: the student's own comes before."""


class Student(Encoder):
    """A network that learns from the teacher; what of its training it does not state is the stage's."""

    method: Distillers | None = Field(None, description="what it learns from; the stage's where not given")
    train: Train | None = Field(None, description="what of its budget and optimizer differs from the stage's; batch_size is shared")
    init_from: Annotated[StudentStart, Takes("Checkpoint")] | None = Field(None, description="trained weights that it starts from; random ones where not given")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="momentum of a moving average of the student that is handed over in its place (DINOv2: 0.994)"
    )

    @property
    def encoder(self) -> Encoder:
        """The network alone."""
        return Encoder.model_construct(**{name: getattr(self, name) for name in Encoder.model_fields})

    @property
    def methods(self) -> tuple[DistillerSpec, ...]:
        """What it learns from, once the stage's is filled in."""
        assert self.method is not None
        return tuple(self.method) if isinstance(self.method, list) else (self.method,)


class Alone(Spec):
    """Each student trained once more without the teacher, with the same network, images and budget."""

    kind: Literal["alone"] = "alone"
    method: Method | None = Field(
        None, description="what it learns from; where not given labels for a student that learns class scores, for others what the teacher was pretrained by"
    )


Baseline = Annotated[Alone, *Kinded[1:]]


class TeacherCache(Spec):
    """What the frozen teacher says is kept on disk, so that the next student of the same images, views and seed costs no teacher forward."""

    gigabytes: PositiveFloat = Field(20.0, description="largest size on disk, of all that is kept in the workspace; what is beyond is computed each time")

    @model_validator(mode="before")
    @classmethod
    def _true(cls, written: Any) -> Any:
        return {} if written is True else written

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """`true` stands for the defaults."""
        return {"anyOf": [{"const": True}, handler(core)]}
