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


class WMSE(MethodSpec):
    """Embeddings of a batch are whitened, and those of two views of an image pulled together."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2007.06346"
    family = "decorrelation"
    year = 2020
    exports = "encoder"
    kind: Literal["w_mse"] = "w_mse"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class VICRegExp(MethodSpec):
    """VICReg whose covariances are pushed down by a soft maximum in place of their squares."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2206.02574"
    family = "decorrelation"
    year = 2022
    exports = "encoder"
    kind: Literal["vicreg_exp"] = "vicreg_exp"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class VICRegCtr(MethodSpec):
    """VICReg-exp transposed: similarities of samples are pushed down in place of covariances of dimensions."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2206.02574"
    family = "decorrelation"
    year = 2022
    exports = "encoder"
    needs = ("negatives",)
    kind: Literal["vicreg_ctr"] = "vicreg_ctr"
    views: Views = Field(Views(count=2), description="how views are made of an image")
