"""Methods that compare places of an image besides, or instead of, whole images."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from schemas.methods.contrastive import Momentum, TwoViews
from schemas.methods.decorrelation import Weight
from schemas.methods.masked import exactly_one
from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Probability, Views, two_or_more

GREY_CROP = Views(count=1, scale=(0.73, 0.73), ratio=(1.0, 1.0), jitter=0.0, grey=1.0, blur=0.0)


def undistorted(views: Views) -> Views:
    """The views, for a method that finds the same point of an image in two crops by their boxes."""
    if wrong := next((name for name in ("rotation", "shear") if getattr(views, name)), ""):
        raise Unfit(f"this method finds a point of the image again by the crops' boxes: {wrong} must be 0", wrong)
    return two_or_more(views)


class CPC(MethodSpec):
    """From the patches above, those below are told, against patches from elsewhere."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1807.03748"
    family = "contrastive"
    year = 2018
    exports = "encoder"
    needs = ("negatives",)
    kind: Literal["cpc"] = "cpc"
    patches: Annotated[int, Field(ge=3)] = Field(7, description="half-overlapping patches along a side of the image, each encoded on its own")
    steps: PositiveInt = Field(5, description="how many rows down from what the context has seen are predicted")
    skipped: Annotated[int, Field(ge=0)] = Field(
        0, description="of these, how many of the first are not: the first shares pixels with the context (CPC v2, https://arxiv.org/abs/1905.09272: 2)"
    )
    hidden: PositiveInt = Field(256, description="width inside the context network's blocks (CPC v2)")
    depth: PositiveInt = Field(5, description="blocks of the context network, each of which sees one row further up (CPC v2)")
    views: Annotated[Views, AfterValidator(exactly_one)] = Field(GREY_CROP, description="one crop and flip of an image, made grey")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.steps >= self.patches:
            raise Unfit(f"steps {self.steps} lead out of {self.patches} rows of patches: set steps to at most {self.patches - 1}", "steps", "patches")
        if self.skipped >= self.steps:
            raise Unfit(f"skipped {self.skipped} leaves none of {self.steps} steps to be predicted", "skipped", "steps")
        return self


class DenseCL(MethodSpec):
    """MoCo v2 on whole views, and the same on places: each must find the place of the other view that is most like it."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2011.09157"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    needs = ("negatives", "teacher", "queue")
    kind: Literal["densecl"] = "densecl"
    temperature: PositiveFloat = Field(0.2, description="of the softmax over similarities")
    dense_weight: Probability = Field(0.5, description="lambda, share of the loss on places; the rest is MoCo's on whole views (paper: 1 is poor)")
    queue: PositiveInt = Field(65536, description="keys that are kept as negatives, of views and of places each, over all devices")
    momentum: Momentum = Field(0.999, description="of the key encoder")
    hidden: PositiveInt = Field(2048, description="hidden width of both heads")
    output: PositiveInt = Field(128, description="dimension of both heads' outputs")
    views: TwoViews = Field(Views(preset="moco_v2"), description="the query's view and the key's")


class VICRegL(MethodSpec):
    """VICReg on whole views, and on pairs of places that show the same point or look most alike."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2210.01571"
    family = "decorrelation"
    year = 2022
    exports = "encoder"
    smallest_batch = 128
    kind: Literal["vicregl"] = "vicregl"
    alpha: Probability = Field(0.75, description="share of the loss on whole views; the rest is on places (ConvNeXt-XL: 0.9)")
    invariance: Weight = Field(25.0, description="weight of the invariance terms")
    variance: Weight = Field(25.0, description="weight of the variance terms; 0 collapses")
    covariance: Weight = Field(1.0, description="weight of the covariance terms")
    matches: PositiveInt = Field(20, description="gamma, pairs of places of two global crops that are kept, the nearest; all where there are fewer")
    local_matches: PositiveInt = Field(4, description="the same of a global and a local crop")
    hidden: PositiveInt = Field(8192, description="width of the views' expander's two hidden layers")
    output: PositiveInt = Field(8192, description="dimension of the views' expander's output")
    local_hidden: PositiveInt = Field(512, description="width of the places' expander's two hidden layers")
    local_output: PositiveInt = Field(512, description="dimension of the places' expander's output")
    views: Annotated[Views, AfterValidator(undistorted)] = Field(
        Views(preset="byol"), description="global crops, which are compared with each other and with local ones (ConvNeXt: 6 local ones)"
    )
