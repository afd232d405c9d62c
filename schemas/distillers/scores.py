"""Distillation of class scores: the teacher is a classifier, the student becomes one."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from schemas.distillers.spec import LABEL_WEIGHT, DistillerSpec, Share, Weight
from schemas.spec import Unfit

TEMPERATURE = "T, of both softmaxes"


class CrossEntropy(DistillerSpec):
    """Labels alone, no teacher: what a student trained by itself learns from, and the term that many methods are added to."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1512.00567"
    family = "scores"
    year = 2015
    taught, of_scores = False, True
    kind: Literal["cross_entropy"] = "cross_entropy"
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share of each label that is spread over all classes; a teacher is better without")

    @property
    def needs_labels(self) -> bool:
        return True


class Bucila(DistillerSpec):
    """The student's probabilities are the teacher's, in mean squared error; no labels."""

    paper: ClassVar[str] = "https://www.cs.cornell.edu/~caruana/compression.kdd06.pdf"
    family = "scores"
    year = 2006
    of_scores = True
    kind: Literal["bucila"] = "bucila"


class Logits(DistillerSpec):
    """The student's logits are the teacher's, in mean squared error, which does not saturate as probabilities do; no labels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1312.6184"
    family = "scores"
    year = 2014
    of_scores = True
    kind: Literal["logits"] = "logits"


class Hinton(DistillerSpec):
    """Softened probabilities are the teacher's: alpha T^2 KL of the teacher from the student + (1 - alpha) cross-entropy with the labels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1503.02531"
    family = "scores"
    year = 2015
    of_scores = True
    kind: Literal["hinton"] = "hinton"
    temperature: PositiveFloat = Field(4.0, description=TEMPERATURE)
    alpha: Share = Field(0.9, description="weight of the teacher; the labels have the rest, and 1 needs none")

    @property
    def needs_labels(self) -> bool:
        return self.alpha < 1


class DKD(DistillerSpec):
    """Hinton's divergence taken apart: of the label's class against the rest, and among the rest, each with a weight of its own."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2203.08679"
    family = "scores"
    year = 2022
    of_scores = True
    kind: Literal["dkd"] = "dkd"
    temperature: PositiveFloat = Field(4.0, description=TEMPERATURE)
    alpha: Weight = Field(1.0, description="weight of the label's class against the rest")
    beta: Weight = Field(8.0, description="weight of the distribution among the rest (paper: 2, 6 or 8 by pair; ImageNet 0.5)")
    warmup: Share = Field(1 / 12, description="share of the training over which both weights rise (20 of 240 epochs)")
    label_weight: Weight = Field(1.0, description="weight of the cross-entropy with labels")

    @property
    def needs_labels(self) -> bool:
        return True


class SoftLabels(DistillerSpec):
    """SimCLR v2's third stage: a fine-tuned teacher's soft labels on images that need no label, with or without those that have one."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2006.10029"
    family = "scores"
    year = 2020
    of_scores = True
    kind: Literal["soft_labels"] = "soft_labels"
    temperature: PositiveFloat = Field(1.0, description=TEMPERATURE)
    label_weight: Share = Field(0.0, description="share of the cross-entropy with the labels of those images that have one; 0 needs none")


class BornAgain(DistillerSpec):
    """The next generation of the same network: labels and the last generation's probabilities, as they are or in one of two ablations."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1805.04770"
    family = "scores"
    year = 2018
    of_scores = True
    kind: Literal["born_again"] = "born_again"
    variant: Literal["plain", "cwtm", "dkpp"] = Field(
        "plain", description="cwtm: labels alone, each weighed by the teacher's confidence; dkpp: the teacher's other classes are shuffled"
    )
    label_weight: Weight = Field(1.0, description=LABEL_WEIGHT)

    @model_validator(mode="after")
    def _learns_from_something(self) -> Self:
        if self.variant == "cwtm" and not self.label_weight:
            raise Unfit("cwtm learns from labels alone: set label_weight above 0", "label_weight")
        return self


class TfKD(DistillerSpec):
    """A teacher made by hand: nearly all on the label, the rest even, softened by a high temperature."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1909.11723"
    family = "scores"
    year = 2020
    taught, of_scores = False, True
    kind: Literal["tf_kd"] = "tf_kd"
    temperature: PositiveFloat = Field(20.0, description="T of the teacher made by hand")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(0.99, description="its probability of the label, before it is softened")
    alpha: Share = Field(0.1, description="weight of that teacher; the labels have the rest")

    @property
    def needs_labels(self) -> bool:
        return True
