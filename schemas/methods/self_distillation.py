"""Methods whose teacher is a moving average of the student."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Views, two_or_more

Momentum = Annotated[float, Field(ge=0, le=1)]


class DINO(MethodSpec):
    """The student predicts, from any crop, the centred and sharpened output of an EMA teacher on the global crops."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.14294"
    family = "self-distillation"
    year = 2021
    exports = "teacher encoder"
    kind: Literal["dino"] = "dino"
    prototypes: PositiveInt = Field(65536, description="K, the dimension of the head's output")
    hidden: PositiveInt = Field(2048, description="width of the head's hidden layers")
    bottleneck: PositiveInt = Field(256, description="width of the L2-normalised bottleneck")
    student_temperature: PositiveFloat = Field(0.1, description="of the student's softmax")
    teacher_temperature: PositiveFloat = Field(0.04, description="after the warm-up")
    teacher_temperature_start: PositiveFloat = Field(0.04, description="at the start")
    teacher_temperature_warmup: Momentum = Field(0.3, description="share of the training over which it moves from start to end (30 of 100 epochs)")
    center_momentum: Momentum = Field(0.9, description="of the running mean that is taken off the teacher's output")
    momentum: Momentum = Field(0.996, description="of the teacher at the start; rises to 1 by a cosine")
    freeze_last_layer: Momentum = Field(0.01, description="share of the training with a frozen last layer (1 of 100 epochs)")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(
        Views(scale=(0.4, 1.0), local_scale=(0.05, 0.4), brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, solarize=0.1),
        description="crops: global ones for the teacher, all for the student",
    )

    @model_validator(mode="after")
    def _sharpens(self) -> Self:
        hottest = max(self.teacher_temperature, self.teacher_temperature_start)
        if hottest >= self.student_temperature:
            raise Unfit(
                f"teacher temperature {hottest} must be below student_temperature {self.student_temperature}: "
                "sharper targets are what keeps DINO from collapsing to uniform",
                "teacher_temperature" if hottest == self.teacher_temperature else "teacher_temperature_start",
                "student_temperature",
            )
        return self
