"""Contrastive methods that differ in what stands against a view, or beside it: banks, queues, neighbours, learned negatives."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class InstanceDiscrimination(MethodSpec):
    """Every image is a class of its own, whose weight is what a memory bank holds of it."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1805.01978"
    family = "contrastive"
    year = 2018
    exports = "encoder"
    needs = ("negatives", "memory bank")
    takes = ("images",)
    kind: Literal["instance_discrimination"] = "instance_discrimination"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class NNCLR(MethodSpec):
    """The positive of a view is the nearest neighbour of the other view in a queue of earlier images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.14548"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    needs = ("negatives", "queue")
    kind: Literal["nnclr"] = "nnclr"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class MSF(MethodSpec):
    """The prediction of one view is pulled to the nearest neighbours of what an EMA teacher says of the other."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2105.07269"
    family = "self-distillation"
    year = 2021
    exports = "encoder"
    needs = ("teacher", "queue")
    kind: Literal["msf"] = "msf"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class AdCo(MethodSpec):
    """The negatives are learned against the encoder: they move to where they are hardest to tell from the positives."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2011.08435"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    needs = ("negatives",)
    kind: Literal["adco"] = "adco"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class CLSA(MethodSpec):
    """A strongly changed view must be as similar to the images of a queue as a weakly changed one is."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.07713"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    needs = ("negatives", "teacher", "queue")
    kind: Literal["clsa"] = "clsa"
    views: Views = Field(Views(count=3), description="how views are made of an image")


class DirectCLR(MethodSpec):
    """The contrastive loss is on the first dimensions of the feature itself, without a projector."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2110.09348"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    needs = ("negatives",)
    kind: Literal["directclr"] = "directclr"
    views: Views = Field(Views(count=2), description="how views are made of an image")
