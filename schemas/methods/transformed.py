"""Contrastive methods that also look at how an image was transformed."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Probability, Views, exactly_two


def two_global(views: Views) -> Views:
    """The views, for a method that compares two global crops and may turn local ones."""
    if views.count != 2:
        raise Unfit("this method compares two global crops and turns the local ones: count must be 2", "count")
    return views


class PIRL(MethodSpec):
    """An image and its jigsaw of tiles embed alike, against what a memory bank holds of other images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1912.01991"
    family = "contrastive"
    year = 2019
    exports = "encoder"
    needs = ("negatives", "memory bank")
    takes = ("images",)
    kind: Literal["pirl"] = "pirl"
    temperature: PositiveFloat = Field(0.07, description="of the softmax over similarities")
    negatives: PositiveInt = Field(32000, description="other images, drawn anew for each image and step, whose memories an embedding is told from")
    bank_momentum: Probability = Field(0.5, description="of what is remembered of an image, each time that it is seen")
    jigsaw: Probability = Field(0.5, description="lambda, the weight of the loss of tiles; that of whole images has the rest")
    gap: PositiveFloat = Field(
        21 / 64, description="mean gap between two tiles, over the side of a tile, which lies anywhere in its cell (paper: 64 px in cells of 85)"
    )
    output: PositiveInt = Field(128, description="dimension of the embeddings and of the bank")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(
        Views(preset="moco_v1"), description="the crop that is embedded whole, and the one that is cut in tiles"
    )


class ESSL(MethodSpec):
    """SimCLR, and beside it the encoder tells by how much an image was turned: invariant to some changes, sensitive to another."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.00899"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    smallest_batch = 256
    needs = ("negatives",)
    kind: Literal["essl"] = "essl"
    temperature: PositiveFloat = Field(0.1, description="of the softmax over similarities, as SimCLR's (CIFAR-10: 0.5)")
    rotation: PositiveFloat = Field(0.4, description="lambda, the weight of the loss of turns")
    hidden: PositiveInt = Field(2048, description="hidden width of projector and predictor")
    output: PositiveInt = Field(128, description="dimension of the projector's output")
    views: Annotated[Views, AfterValidator(two_global)] = Field(
        Views(preset="simclr", local_count=1, local_scale=(0.05, 0.14)),
        description="two crops that are compared, and a local one that is turned by four quarters (ImageNet: 96 px); the first crop is where there is none",
    )
