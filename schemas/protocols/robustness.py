"""Protocols that ask what is left of an accuracy elsewhere: corrupted images, another data set, the worst class, unknown classes."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, PositiveInt

from schemas.artifacts import Takes
from schemas.protocols.base import Need, ProtocolSpec

Probe = Literal["linear", "knn", "classifier"]
_OF_CLASSES: frozenset[Need] = frozenset({"train labels", "test labels"})
Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "frost", "fog",
    "brightness", "contrast", "elastic", "pixelate", "jpeg",
]  # fmt: skip


class Corruptions(ProtocolSpec):
    """Error on test images that are corrupted on the fly, 15 kinds in five severities, beside that of a baseline: mean corruption error."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1903.12261"
    version, title = "corruptions@1", "corruptions"
    needs = _OF_CLASSES | {"network"}
    kind: Literal["corruptions"] = "corruptions"
    corruptions: Annotated[list[Corruption], Field(min_length=1)] = Field(list(get_args(Corruption)), description="which, all 15 of them where not given")
    severities: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)] = Field([1, 2, 3, 4, 5], description="how strong")
    probe: Probe = Field("linear", description="fitted to clean train features; `classifier` is the model's own head")
    samples: PositiveInt = Field(2_000, description="test images that are corrupted, at most")
    baseline: Annotated[str, Takes("Checkpoint")] | None = Field(
        None, description="the model whose errors are 100; where not given the encoder at random initialisation, by the same probe"
    )


class Shift(ProtocolSpec):
    """A probe fitted here and judged on another data set of the same classes: accuracy there, and what is lost."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1902.10811"
    version, title, needs = "shift@1", "shift", _OF_CLASSES
    kind: Literal["shift"] = "shift"
    dataset: Annotated[str, Takes("Dataset")] = Field(description="whose test split, or else train split, is judged; only classes that both have count")
    probe: Probe = Field("linear", description="`classifier` is the model's own head")


class Groups(ProtocolSpec):
    """Accuracy of each class, the mean of these, the worst; and of groups of images where a file tells them."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1911.08731"
    version, title, needs = "groups@1", "groups", _OF_CLASSES
    kind: Literal["groups"] = "groups"
    probe: Probe = Field("linear", description="`classifier` is the model's own head")
    file: str | None = Field(None, description="CSV with columns `uri` and `group`; classes are the groups where not given")


class Reliability(ProtocolSpec):
    """Calibration of a probe on frozen features, or of the model's own head: ECE, and the reliability diagram."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1706.04599"
    version, title, needs = "reliability@1", "reliability", _OF_CLASSES
    kind: Literal["reliability"] = "reliability"
    probe: Probe = Field("linear", description="`classifier` is the model's own head")
    bins: PositiveInt = Field(15, description="of equal width, in which confidence and accuracy are compared")


class OutOfDistribution(ProtocolSpec):
    """How well a score that needs no labels tells test images from those of another data set: AUROC and FPR at 95% TPR."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2204.06507"
    version, title = "out_of_distribution@1", "OOD"
    needs: ClassVar[frozenset[Need]] = frozenset({"test images"})
    kind: Literal["out_of_distribution"] = "out_of_distribution"
    dataset: Annotated[str, Takes("Dataset")] = Field(description="of what does not belong: its test split, or else its train split")
    score: Literal["knn", "mahalanobis", "confidence"] = Field("knn", description="`confidence` is of the model's own head")
    k: PositiveInt = Field(50, description="the distance is that of the k-th nearest train image")
