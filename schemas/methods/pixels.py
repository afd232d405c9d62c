"""Methods that predict pixels, or gradients of them, of what is masked."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class SimMIM(MethodSpec):
    """Masked patches go in as mask tokens, and one linear layer tells their pixels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.09886"
    family = "masked"
    year = 2021
    exports = "encoder"
    architectures = ("vit", "swin")
    kind: Literal["simmim"] = "simmim"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class MaskFeat(MethodSpec):
    """The histogram of oriented gradients of what is masked is told from the rest."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2112.09133"
    family = "masked"
    year = 2021
    exports = "encoder"
    architectures = ("vit",)
    kind: Literal["maskfeat"] = "maskfeat"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class FCMAE(MethodSpec):
    """A masked autoencoder for ConvNets: what is masked stays empty through every layer of ConvNeXt V2."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2301.00808"
    family = "masked"
    year = 2023
    exports = "encoder"
    architectures = ("convnextv2",)
    kind: Literal["fcmae"] = "fcmae"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class UniformMasking(MethodSpec):
    """One patch of every four is kept, so that a pyramid encoder sees a dense smaller image, and some of those are masked."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2205.10063"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("swin",)
    kind: Literal["uniform_masking"] = "uniform_masking"
    views: Views = Field(Views(count=1), description="how views are made of an image")
