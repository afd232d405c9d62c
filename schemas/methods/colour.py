"""Methods that learn from how lightness and colour go together."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class Colorization(MethodSpec):
    """From the lightness of an image the colour of every place is told, as one of some hundred bins."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1603.08511"
    family = "pretext"
    year = 2016
    exports = "encoder"
    needs = ("colour",)
    kind: Literal["colorization"] = "colorization"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class SplitBrain(MethodSpec):
    """Colour is told from lightness, and lightness from colour."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1611.09842"
    family = "pretext"
    year = 2016
    exports = "encoder"
    needs = ("colour",)
    kind: Literal["split_brain"] = "split_brain"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class CMC(MethodSpec):
    """Lightness and colour of an image are each other's positive, against what a memory bank holds of other images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1906.05849"
    family = "contrastive"
    year = 2019
    exports = "encoder"
    needs = ("negatives", "memory bank", "colour")
    takes = ("images",)
    kind: Literal["cmc"] = "cmc"
    views: Views = Field(Views(count=1), description="how views are made of an image")
