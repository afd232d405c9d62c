"""Contrastive methods that ask for equal distributions over other images."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from schemas.methods.contrastive import Momentum, TwoViews
from schemas.methods.decorrelation import Weight
from schemas.methods.spec import MethodSpec
from schemas.views import Probability, Views, two_or_more

HeadWidth = Annotated[int, Field(ge=8)]


class ReLIC(MethodSpec):
    """Contrast, and two views must be as similar to all other images as each other: the same distribution over the batch."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2010.07922"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    smallest_batch = 256
    needs = ("negatives", "teacher")
    kind: Literal["relic"] = "relic"
    temperature: PositiveFloat = Field(0.1, description="of the softmax over similarities (SimCLR's)")
    invariance: Weight = Field(1.0, description="beta, weight of the divergence between the two views' distributions; 0 leaves contrast alone")
    momentum: Momentum = Field(0.996, description="of the target network at the start; rises to 1 by a cosine, as BYOL's")
    hidden: HeadWidth = Field(4096, description="width of the head's first hidden layer; each of the three after it is half as wide, to 512")
    output: PositiveInt = Field(128, description="dimension of the head's output")
    views: TwoViews = Field(Views(preset="simclr"), description="how two views are made of an image")


class ReLICv2(MethodSpec):
    """ReLIC with large and small crops, and with the background of large ones taken away."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2201.05119"
    family = "contrastive"
    year = 2022
    exports = "encoder"
    smallest_batch = 256
    needs = ("negatives", "teacher")
    kind: Literal["relic_v2"] = "relic_v2"
    temperature: PositiveFloat = Field(0.1, description="of the softmax over similarities (SimCLR's)")
    invariance: Weight = Field(1.0, description="beta, weight of the divergence between a crop's distribution and a large crop's; 0 leaves contrast alone")
    saliency: Probability = Field(
        0.1, description="probability that a large crop loses its background, which is what stands out little from its mean colour; 0 for textures and patterns"
    )
    momentum: Momentum = Field(0.996, description="of the target network at the start; rises to 1 by a cosine, as BYOL's")
    hidden: HeadWidth = Field(4096, description="width of the head's first hidden layer; each of the three after it is half as wide, to 512")
    output: PositiveInt = Field(128, description="dimension of the head's output")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(
        Views(preset="swav", count=4, local_count=2, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, solarize=0.1, local_solarize=0.1),
        description="large crops, which the target network sees too, and small ones",
    )
