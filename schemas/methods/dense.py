"""Methods that compare places of an image besides, or instead of, whole images."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class CPC(MethodSpec):
    """From the patches above, those below are told, against patches from elsewhere."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1807.03748"
    family = "contrastive"
    year = 2018
    exports = "encoder"
    needs = ("negatives",)
    kind: Literal["cpc"] = "cpc"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class DenseCL(MethodSpec):
    """MoCo v2 on whole views, and the same on places: each must find the place of the other view that is most like it."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2011.09157"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    needs = ("negatives", "teacher", "queue")
    kind: Literal["densecl"] = "densecl"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class VICRegL(MethodSpec):
    """VICReg on whole views, and on pairs of places that show the same point or look most alike."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2210.01571"
    family = "decorrelation"
    year = 2022
    exports = "encoder"
    kind: Literal["vicregl"] = "vicregl"
    views: Views = Field(Views(count=2), description="how views are made of an image")
