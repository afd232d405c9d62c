"""Methods that keep the dimensions of an embedding apart."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
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


def _global_crops(views: Views) -> Views:
    """The views, for a method that compares every global crop with every other one."""
    if views.count < 2 or views.local_count:
        wrong = "count" if views.count < 2 else "local_count"
        raise Unfit("this method compares global crops, each with every other: count must be 2 or more and local_count 0", wrong)
    return views


class WMSE(MethodSpec):
    """Embeddings of a batch are whitened, and those of two views of an image pulled together."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2007.06346"
    family = "decorrelation"
    year = 2020
    exports = "encoder"
    kind: Literal["w_mse"] = "w_mse"
    dimension: PositiveInt = Field(64, description="of an embedding, below `slice_size` (authors: 64 on CIFAR, 128 on STL-10 and Tiny ImageNet)")
    slice_size: PositiveInt = Field(128, description="w_size, images that are whitened together, at most a batch (authors: twice the dimension)")
    iterations: PositiveInt = Field(1, description="w_iter, how often a batch is cut into random slices anew (authors: 4 on STL-10 and Tiny ImageNet)")
    epsilon: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the identity in the covariance, for embeddings that span fewer dimensions than they have"
    )
    hidden: PositiveInt = Field(1024, description="hidden width of the projector")
    views: Annotated[Views, AfterValidator(_global_crops)] = Field(
        Views(preset="moco_v2", grey=0.1, blur=0.0), description="how views are made of an image (paper: 2 or 4)"
    )

    @model_validator(mode="after")
    def _whitens(self) -> Self:
        if self.slice_size <= self.dimension:
            raise Unfit(
                f"{self.slice_size} embeddings cannot be white in {self.dimension} dimensions: set slice_size above dimension, such as to {2 * self.dimension}",
                "slice_size",
                "dimension",
            )
        return self


class VICRegExp(MethodSpec):
    """VICReg whose covariances are pushed down by a soft maximum in place of their squares."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2206.02574"
    family = "decorrelation"
    year = 2022
    exports = "encoder"
    smallest_batch = 128
    kind: Literal["vicreg_exp"] = "vicreg_exp"
    invariance: Weight = Field(25.0, description="weight of the invariance term, VICReg's")
    variance: Weight = Field(25.0, description="weight of the variance term, VICReg's")
    covariance: Weight = Field(1.0, description="weight of the soft maximum of covariances, VICReg's")
    temperature: PositiveFloat = Field(0.1, description="of the soft maximum; colder pushes the largest covariances alone")
    hidden: PositiveInt = Field(8192, description="width of the projector's two hidden layers")
    output: PositiveInt = Field(8192, description="dimension of the projector's output (paper: 256 to 8192; from 1024 on alike)")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(preset="byol"), description="how two views are made of an image")


class VICRegCtr(MethodSpec):
    """VICReg-exp transposed: similarities of samples are pushed down in place of covariances of dimensions."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2206.02574"
    family = "decorrelation"
    year = 2022
    exports = "encoder"
    smallest_batch = 128
    needs = ("negatives",)
    kind: Literal["vicreg_ctr"] = "vicreg_ctr"
    invariance: Weight = Field(25.0, description="weight of the invariance term, VICReg's")
    variance: Weight = Field(25.0, description="weight of the term that keeps each embedding's length; 0 collapses")
    similarity: Weight = Field(1.0, description="weight of the soft maximum of similarities, VICReg's of covariances")
    temperature: PositiveFloat = Field(0.1, description="of the soft maximum; colder pushes the most alike images alone")
    hidden: PositiveInt = Field(8192, description="width of the projector's two hidden layers")
    output: PositiveInt = Field(8192, description="dimension of the projector's output (paper: 256 to 8192, all alike)")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(preset="byol"), description="how two views are made of an image")
