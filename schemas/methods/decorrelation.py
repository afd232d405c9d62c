"""Methods that keep the dimensions of an embedding apart."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveInt

from schemas.methods.spec import MethodSpec
from schemas.views import Views, exactly_two

Weight = Annotated[float, Field(ge=0)]


class VICReg(MethodSpec):
    """Two views embed alike (invariance), every dimension keeps its spread (variance), no two say the same (covariance)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2105.04906"
    family = "decorrelation"
    year = 2021
    exports = "encoder"
    smallest_batch = 128
    kind: Literal["vicreg"] = "vicreg"
    invariance: Weight = Field(25.0, description="weight of the invariance term")
    variance: Weight = Field(25.0, description="weight of the variance term; 0 collapses")
    covariance: Weight = Field(1.0, description="weight of the covariance term")
    hidden: PositiveInt = Field(8192, description="width of the expander's two hidden layers")
    output: PositiveInt = Field(8192, description="dimension of the expander's output")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(
        Views(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, solarize=0.1), description="how two views are made of an image"
    )
