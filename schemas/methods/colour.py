"""Methods that learn from how lightness and colour go together."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Probability, Views


def one_in_colour(views: Views) -> Views:
    """The views, for a method that looks at the colours of one crop of an image."""
    if (views.count, views.local_count) != (1, 0):
        wrong = "count" if views.count != 1 else "local_count"
        raise Unfit("this method looks at one crop of an image: count must be 1 and local_count 0", wrong)
    if views.grey:
        raise Unfit("this method learns from colours: grey must be 0", "grey")
    return views


InColour = Annotated[Views, AfterValidator(one_in_colour)]
CROP = Views(count=1, scale=(0.2, 1.0), jitter=0.0, grey=0.0, blur=0.0)
"""A crop and flip with the colours that the image has."""


class Colorization(MethodSpec):
    """From the lightness of an image the colour of every place is told, as one of some hundred bins."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1603.08511"
    family = "pretext"
    year = 2016
    exports = "encoder"
    needs = ("colour",)
    kind: Literal["colorization"] = "colorization"
    bin: PositiveInt = Field(10, description="side of a bin of colours, in Lab's a and b")
    neighbours: Annotated[int, Field(ge=1, le=9)] = Field(5, description="nearest bins that a colour is shared among")
    sigma: PositiveFloat = Field(5.0, description="of the Gaussian by which it is shared, and by which the frequencies of bins are smoothed")
    uniform: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="lambda, the uniform distribution's part in the frequencies by which rare colours weigh more; at 1 all weigh the same"
    )
    temperature: Annotated[float, Field(gt=0, le=1)] = Field(0.38, description="of the annealed mean by which colours are put into pictures; not of the loss")
    decoder_width: PositiveInt = Field(256, description="width of the convolution between the encoder's places and the bins")
    views: InColour = Field(CROP, description="one crop and flip of an image, without change of colours")


class SplitBrain(MethodSpec):
    """Colour is told from lightness, and lightness from colour."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1611.09842"
    family = "pretext"
    year = 2016
    exports = "encoder"
    needs = ("colour",)
    kind: Literal["split_brain"] = "split_brain"
    bin: PositiveInt = Field(10, description="side of a bin of colours, in Lab's a and b")
    levels: Annotated[int, Field(ge=2, le=256)] = Field(100, description="bins of lightness")
    decoder_width: PositiveInt = Field(256, description="width of the convolution between the encoder's places and the bins")
    views: InColour = Field(CROP, description="one crop and flip of an image, without change of colours")


class CMC(MethodSpec):
    """Lightness and colour of an image are each other's positive, against what a memory bank holds of other images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1906.05849"
    family = "contrastive"
    year = 2019
    exports = "encoder"
    needs = ("negatives", "memory bank", "colour")
    takes = ("images",)
    kind: Literal["cmc"] = "cmc"
    temperature: PositiveFloat = Field(0.07, description="divides the similarities")
    negatives: PositiveInt = Field(16384, description="of each image, drawn from the bank; as many as there are others where these are fewer")
    bank_momentum: Probability = Field(0.5, description="share of its last embedding that a row of a bank keeps")
    output: PositiveInt = Field(128, description="dimension of the linear heads' output, and of the banks")
    views: InColour = Field(CROP, description="one crop and flip of an image, without change of colours, which both halves are of")
