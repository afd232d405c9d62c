"""DistillerSpec: what every distillation method's config says of itself besides its parameters."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, PositiveFloat, model_validator
from pydantic_core import CoreSchema

from schemas.spec import Spec

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
LABEL_WEIGHT = "weight of the cross-entropy with labels; 0 needs none"


class Tap(Spec):
    """A layer of the student beside a layer of the teacher, each by the path of its module in timm's model; a bare path names both."""

    bare = "student"
    student: str = Field(description="such as layer3, stages.2 or blocks.3; last is the last one that timm lists")
    teacher: str = Field(description="such as layer3, blocks.11 or last")

    @model_validator(mode="before")
    @classmethod
    def _both(cls, written: Any) -> Any:
        return {"student": written, "teacher": written} if isinstance(written, str) else written

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A bare path stands for the same layer of both."""
        return {"anyOf": [{"type": "string"}, handler(core)]}


class DistillerSpec(Spec):
    """A distillation method. Constants of the class are facts of its paper, for `sslflow methods`, checks and warnings."""

    family: ClassVar[Literal["features", "relations", "self-distillation", "scores", "online"]]
    year: ClassVar[int]
    kind: str
    taught: ClassVar[bool] = True
    """Whether it learns from a teacher; one that does not learns from labels, peers or its own past."""
    of_scores: ClassVar[bool] = False
    """Whether the student gets a classifier, and the teacher, if there is one, must have one."""
    cohort: ClassVar[bool] = False
    """Whether students that have it look at each other while they train, so that they must go on from the same step and stay on one device."""
    multi_crop: ClassVar[bool] = False
    """Whether it has a use for local crops."""
    two_views: ClassVar[bool] = False
    """Whether it compares views of an image, so that it needs two of them."""
    masks_patches: ClassVar[bool] = False
    """Whether the student sees masked patches, which only a ViT has."""
    weight: PositiveFloat = Field(1.0, description="factor of all its terms, such as beside those of another method of the same student")

    @property
    def needs_labels(self) -> bool:
        """Whether images must have labels."""
        return bool(getattr(self, "label_weight", 0))

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Layers that it looks at besides what comes out of the networks."""
        return tuple(getattr(self, "layers", ()))
