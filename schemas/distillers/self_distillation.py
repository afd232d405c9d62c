"""Distillation by the teacher's own pretraining objective: DINOv2's and DINOv3's recipe for their families of students."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from schemas.distillers.spec import DistillerSpec, Share, Weight


class DINOv2Students(DistillerSpec):
    """The student's prototypes answer as the frozen teacher's do, of crops and of patches; nothing is masked and no depth dropped."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    family = "self-distillation"
    year = 2023
    multi_crop = True
    two_views = True
    kind: Literal["dinov2"] = "dinov2"
    student_temperature: PositiveFloat = Field(0.1, description="of the student's softmax")
    teacher_temperature: PositiveFloat = Field(0.07, description="after the warm-up")
    teacher_temperature_start: PositiveFloat = Field(0.04, description="at the start")
    teacher_temperature_warmup: Share = Field(0.3, description="share of the training over which it moves from start to end")
    centering: Literal["center", "sinkhorn"] = Field("sinkhorn", description="center takes a running mean off the teacher's output, sinkhorn balances it")
    center_momentum: Share = Field(0.9, description="of that running mean")
    patch_weight: Weight = Field(1.0, description="weight of the patch loss; 0 for a teacher without a head for patches, such as DINO's")
    patches: Annotated[float, Field(gt=0, le=1)] = Field(0.25, description="share of the global crops' patches that the patch loss looks at")
    koleo: Weight = Field(0.1, description="weight of KoLeo, of each global crop")
    hidden: PositiveInt = Field(2048, description="width of the hidden layers of the student's heads")
    freeze_last_layer: Share = Field(0.01, description="share of the training with a frozen last layer")
