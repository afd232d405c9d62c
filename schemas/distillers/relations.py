"""Distillation of relations: how images lie to each other in the teacher's space, not where each lies."""

from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from schemas.distillers.spec import DistillerSpec, Share, Weight
from schemas.spec import Unfit


class RKD(DistillerSpec):
    """Distances between images and angles between triples of them are the teacher's, each in its own scale."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1904.05068"
    family = "relations"
    year = 2019
    kind: Literal["rkd"] = "rkd"
    distance: Weight = Field(25.0, description="weight of the distances")
    angle: Weight = Field(50.0, description="weight of the angles")

    @model_validator(mode="after")
    def _of_one_at_least(self) -> Self:
        if not self.distance and not self.angle:
            raise Unfit("distance and angle are both 0: nothing is left to learn from", "distance", "angle")
        return self


class SEED(DistillerSpec):
    """An image's similarities to a queue of teacher embeddings, and to its own, are what the teacher's are."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2101.04731"
    family = "relations"
    year = 2021
    kind: Literal["seed"] = "seed"
    queue: PositiveInt = Field(65536, description="teacher embeddings that an image is compared with")
    temperature: PositiveFloat = Field(0.2, description="of the student's softmax")
    teacher_temperature: PositiveFloat = Field(0.01, description="of the teacher's")
    hidden: PositiveInt = Field(512, description="width of the hidden layer of the student's projection")


class CompRess(DistillerSpec):
    """An image's similarities to anchors among earlier images are the teacher's; each network has anchors of its own, or both the teacher's."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2010.14713"
    family = "relations"
    year = 2020
    kind: Literal["compress"] = "compress"
    queue: PositiveInt = Field(128_000, description="anchors")
    temperature: PositiveFloat = Field(0.04, description="of both softmaxes")
    queues: Literal[1, 2] = Field(2, description="2: the student's image against the student's anchors; 1: both against the teacher's, after a projection")
    momentum: Share = Field(0.999, description="of the average of the student that makes its anchors")


class ISD(DistillerSpec):
    """The student's similarities to a queue are those of its own moving average, which is its teacher."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2012.09259"
    family = "relations"
    year = 2021
    taught, two_views = False, True
    kind: Literal["isd"] = "isd"
    queue: PositiveInt = Field(128_000, description="embeddings that an image is compared with")
    temperature: PositiveFloat = Field(0.02, description="of both softmaxes")
    momentum: Share = Field(0.999, description="of the moving average")
    hidden: PositiveInt = Field(1024, description="width of the hidden layer of the predictor")


class CRD(DistillerSpec):
    """The student's embedding of an image is near the teacher's and far from the teacher's of other images, drawn from a memory bank."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1910.10699"
    family = "relations"
    year = 2020
    kind: Literal["crd"] = "crd"
    dim: PositiveInt = Field(128, description="of the embeddings that are compared")
    negatives: PositiveInt = Field(16384, description="of each image; all others where there are fewer")
    temperature: PositiveFloat = Field(0.07, description="divides the similarities")
    momentum: Share = Field(0.5, description="share of its last embedding that a row of the bank keeps")
    other_classes: bool = Field(False, description="draw negatives of other classes only, which needs labels, as the authors' code does")

    @property
    def needs_labels(self) -> bool:
        return self.other_classes
