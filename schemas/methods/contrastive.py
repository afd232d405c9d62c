"""Methods that pull two views of an image together and push other images away."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from schemas.methods.spec import MethodSpec
from schemas.views import Views, exactly_two


class SimCLR(MethodSpec):
    """Two views of an image are each other's positive; every other view of the batch is a negative."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2002.05709"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    smallest_batch = 256
    kind: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = Field(0.1, description="of the softmax over similarities (authors' ImageNet code: 0.1; CIFAR-10: 0.5)")
    hidden: PositiveInt = Field(2048, description="hidden width of the projector")
    output: PositiveInt = Field(128, description="dimension of the projector's output")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(), description="how two views are made of an image")
