"""Methods that learn from a puzzle made of the image itself."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Views


def one_crop(views: Views) -> Views:
    """The views, for a method that makes its puzzle of one crop of an image."""
    if (views.count, views.local_count) != (1, 0):
        wrong = "count" if views.count != 1 else "local_count"
        raise Unfit("this method makes its puzzle of one crop of an image: count must be 1 and local_count 0", wrong)
    return views


OneCrop = Annotated[Views, AfterValidator(one_crop)]


class RotNet(MethodSpec):
    """An image is turned by 0, 90, 180 or 270 degrees, and the encoder tells by which."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1803.07728"
    family = "pretext"
    year = 2018
    exports = "encoder"
    kind: Literal["rotnet"] = "rotnet"
    views: OneCrop = Field(
        Views(count=1, scale=(0.77, 0.77), ratio=(1.0, 1.0), jitter=0.0, grey=0.0, blur=0.0),
        description="one crop and flip of an image, of which all four turns are seen (authors' ImageNet code: 224 px of 256, 0.77 of the area)",
    )


class RelativePatch(MethodSpec):
    """Of two neighbouring patches the encoder tells on which of eight sides the second lies."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1505.05192"
    family = "pretext"
    year = 2015
    exports = "encoder"
    kind: Literal["relative_patch"] = "relative_patch"
    gap: PositiveFloat = Field(0.5, description="between two patches, over the side of a patch (paper: 48 px between patches of 96)")
    jitter: PositiveFloat = Field(
        7 / 96, description="how far a patch may move to either side, over its own (paper: 7 px of 96), so that some gap is left; at least half a pixel"
    )
    hidden: PositiveInt = Field(4096, description="hidden width of the head that compares two patches")
    views: OneCrop = Field(
        Views(count=1, scale=(0.35, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0),
        description="the crop that patches are cut from (paper: 3 x 3 of them out of images of 150,000 to 450,000 pixels)",
    )

    @model_validator(mode="after")
    def _leaves_a_gap(self) -> Self:
        if 2 * self.jitter >= self.gap:
            raise Unfit(f"two patches that move by jitter {self.jitter:g} each may touch across a gap of {self.gap:g}: make it less than half", "jitter")
        return self


class Jigsaw(MethodSpec):
    """Nine tiles of an image are shuffled, and from features of each alone the order is told."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1603.09246"
    family = "pretext"
    year = 2016
    exports = "encoder"
    kind: Literal["jigsaw"] = "jigsaw"
    permutations: Annotated[int, Field(ge=2, le=1000)] = Field(1000, description="orders that are to be told apart (paper: 1000; from 100 on they do well)")
    gap: PositiveFloat = Field(
        11 / 64, description="mean gap between two tiles, over the side of a tile, which lies anywhere in its cell (paper: 64 px in cells of 75)"
    )
    branch: PositiveInt = Field(512, description="width of the layer that each tile's features go through alone (paper: fc6)")
    hidden: PositiveInt = Field(4096, description="hidden width of the head in which all nine meet (paper: fc7)")
    views: OneCrop = Field(
        Views(count=1, scale=(0.77, 0.77), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.3, blur=0.0),
        description="the crop that tiles are cut from (paper: 225 px of 256, which is 0.77 of the area; 30% of the images in grey)",
    )


class ExemplarCNN(MethodSpec):
    """Every image is a class of its own, and the encoder tells it from however it was changed."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1406.6909"
    family = "pretext"
    year = 2014
    exports = "encoder"
    takes = ("images",)
    kind: Literal["exemplar"] = "exemplar"
    views: OneCrop = Field(
        Views(count=1, scale=(0.25, 1.0), flip=0.0, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.0, blur=0.0, rotation=20.0),
        description="one strong change of an image (paper: translated, scaled by 0.7 to 1.4, rotated by 20 degrees, contrast and hue by 0.1)",
    )
