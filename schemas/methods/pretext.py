"""Methods that learn from a puzzle made of the image itself."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class RotNet(MethodSpec):
    """An image is turned by 0, 90, 180 or 270 degrees, and the encoder tells by which."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1803.07728"
    family = "pretext"
    year = 2018
    exports = "encoder"
    kind: Literal["rotnet"] = "rotnet"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class RelativePatch(MethodSpec):
    """Of two neighbouring patches the encoder tells on which of eight sides the second lies."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1505.05192"
    family = "pretext"
    year = 2015
    exports = "encoder"
    kind: Literal["relative_patch"] = "relative_patch"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class Jigsaw(MethodSpec):
    """Nine tiles of an image are shuffled, and from features of each alone the order is told."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1603.09246"
    family = "pretext"
    year = 2016
    exports = "encoder"
    kind: Literal["jigsaw"] = "jigsaw"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class ExemplarCNN(MethodSpec):
    """Every image is a class of its own, and the encoder tells it from however it was changed."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1406.6909"
    family = "pretext"
    year = 2014
    exports = "encoder"
    needs = ("memory bank",)
    takes = ("images",)
    kind: Literal["exemplar"] = "exemplar"
    views: Views = Field(Views(count=1), description="how views are made of an image")
