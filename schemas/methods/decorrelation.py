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
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(preset="byol"), description="how two views are made of an image")


class BarlowTwins(MethodSpec):
    """The cross-correlation of two views' embeddings becomes the identity: equal along a dimension, unrelated between two."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2103.03230"
    family = "decorrelation"
    year = 2021
    exports = "encoder"
    smallest_batch = 128
    kind: Literal["barlow_twins"] = "barlow_twins"
    redundancy: Weight = Field(5e-3, description="lambda, weight of the redundancy term; 0 makes all dimensions say the same")
    hidden: PositiveInt = Field(8192, description="width of the projector's two hidden layers")
    output: PositiveInt = Field(8192, description="dimension of the projector's output")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(preset="barlow_twins"), description="how two views are made of an image")
