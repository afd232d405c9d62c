"""Distillation of features: what the teacher says of an image, or of a place in it, is what the student learns to say."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from schemas.distillers.spec import DistillerSpec, Tap, Weight
from schemas.spec import Unfit


class Feature(DistillerSpec):
    """The student's projected features point where the teacher's do, of the image and on request of its places; no labels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1412.6550"
    family = "features"
    year = 2015
    kind: Literal["feature"] = "feature"
    distance: Literal["cosine", "smooth_l1"] = Field("cosine", description="cosine: 1 - cosine, lengths play no part; smooth_l1: of each number")
    hidden: NonNegativeInt = Field(0, description="hidden width of the projection to the teacher's dimension; 0 makes it linear")
    center: bool = Field(True, description="take the teacher's mean off its features first: much of their cosine is what all images share")
    pooled: Weight = Field(1.0, description="weight of the image's feature: CLS token or pooled")
    places: Weight = Field(0.0, description="weight of the patches' or places' features, resampled to the teacher's grid")

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if not self.pooled and not self.places:
            raise Unfit("pooled and places are both 0: there is nothing to learn", "pooled", "places")
        return self


class FitNets(DistillerSpec):
    """Hints: a convolution of the student's feature map regresses the teacher's, in mean squared error."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1412.6550"
    family = "features"
    year = 2015
    kind: Literal["fitnets"] = "fitnets"
    layers: list[Tap] = Field([], description="guided layers of the student, each beside the teacher's hint; what comes out of both where none are named")


class AttentionTransfer(DistillerSpec):
    """Where the student's activations are large is where the teacher's are: normalised maps of their mean squares agree."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1612.03928"
    family = "features"
    year = 2017
    kind: Literal["attention_transfer"] = "attention_transfer"
    layers: Annotated[list[Tap], Field(min_length=1)] = Field(
        [Tap(student="last", teacher="last")],
        description="layers of both networks; last: a ViT's last block or a ConvNet's last stage, before any norm behind it",
    )
    beta: Weight = Field(1000.0, description="weight of the mean squared difference of the maps")


class Gram(DistillerSpec):
    """Patches of an image are as similar to each other as the teacher's: squared difference of the matrices of their cosines."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2508.10104"
    family = "features"
    year = 2025
    kind: Literal["gram"] = "gram"


class MaskedFeature(DistillerSpec):
    """The student sees part of the patches and predicts the frozen teacher's features of the others; stages may follow each other."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2209.03917"
    family = "features"
    year = 2022
    masks_patches = True
    kind: Literal["masked_feature"] = "masked_feature"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(0.75, description="share of the patches that the student does not see")
    masking: Literal["random", "block"] = Field("random", description="shape of what is masked: single patches, or blocks of them")
    beta: PositiveFloat = Field(2.0, description="of the smooth L1 distance: below it squared, above it absolute")
