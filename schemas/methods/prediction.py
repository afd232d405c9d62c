"""Methods that predict the embedding of one view from that of another, with nothing that pushes images apart."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveInt

from schemas.methods.spec import MethodSpec
from schemas.views import Views, exactly_two


class BYOL(MethodSpec):
    """A predictor on one view tells the embedding that an EMA target gives to the other; no negatives."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2006.07733"
    family = "self-distillation"
    year = 2020
    exports = "encoder"
    smallest_batch = 256
    needs = ("teacher",)
    kind: Literal["byol"] = "byol"
    momentum: Annotated[float, Field(ge=0, le=1)] = Field(0.996, description="of the target at the start; rises to 1 by a cosine (300 epochs or fewer: 0.99)")
    hidden: PositiveInt = Field(4096, description="hidden width of the projector and of the predictor")
    output: PositiveInt = Field(256, description="dimension of the projection and of its prediction")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(preset="byol"), description="how two views are made of an image")


class SimSiam(MethodSpec):
    """A predictor on one view tells the embedding of the other, through which no gradient flows; no EMA, no negatives."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2011.10566"
    family = "self-distillation"
    year = 2020
    exports = "encoder"
    kind: Literal["simsiam"] = "simsiam"
    hidden: PositiveInt = Field(2048, description="width of the projector's two hidden layers")
    output: PositiveInt = Field(2048, description="dimension of the projection and of its prediction")
    bottleneck: PositiveInt = Field(512, description="hidden width of the predictor; a quarter of the output in the paper")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(preset="moco_v2"), description="how two views are made of an image")
