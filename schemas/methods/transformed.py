"""Contrastive methods that also look at how an image was transformed."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class PIRL(MethodSpec):
    """An image and its jigsaw of tiles embed alike, against what a memory bank holds of other images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1912.01991"
    family = "contrastive"
    year = 2019
    exports = "encoder"
    needs = ("negatives", "memory bank")
    takes = ("images",)
    kind: Literal["pirl"] = "pirl"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class ESSL(MethodSpec):
    """SimCLR, and beside it the encoder tells by how much an image was turned: invariant to some changes, sensitive to another."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.00899"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    needs = ("negatives",)
    kind: Literal["essl"] = "essl"
    views: Views = Field(Views(count=2), description="how views are made of an image")
