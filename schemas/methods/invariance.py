"""Contrastive methods that ask for equal distributions over other images."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class ReLIC(MethodSpec):
    """Contrast, and two views must be as similar to all other images as each other: the same distribution over the batch."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2010.07922"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    needs = ("negatives", "teacher")
    kind: Literal["relic"] = "relic"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class ReLICv2(MethodSpec):
    """ReLIC with large and small crops, and with the background of large ones taken away."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2201.05119"
    family = "contrastive"
    year = 2022
    exports = "encoder"
    needs = ("negatives", "teacher")
    kind: Literal["relic_v2"] = "relic_v2"
    views: Views = Field(Views(count=4), description="how views are made of an image")
