"""Protocols that classify frozen features: neighbours, and heads of one or two layers."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from schemas.protocols.base import Need, ProtocolSpec

_OF_CLASSES: frozenset[Need] = frozenset({"train labels", "test labels"})
Share = Annotated[float, Field(gt=0, le=1)]
_Counts = Annotated[list[PositiveInt], Field(min_length=1)]
_Shares = Annotated[list[Share], Field(min_length=1)]


class KNN(ProtocolSpec):
    """Weighted nearest-neighbour vote over the labelled train split, cosine on L2-normalised features."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1805.01978"
    version, title, needs, listed = "knn@1", "k-NN", _OF_CLASSES, "k"
    kind: Literal["knn"] = "knn"
    k: PositiveInt | _Counts = Field(20, description="neighbours that vote; of several numbers, such as [10, 20, 100, 200], each gives a row")
    temperature: PositiveFloat = Field(0.07, description="of the vote's weights exp(similarity / temperature)")


class FewShot(ProtocolSpec):
    """Nearest neighbour among a few labelled images a class, averaged over random draws."""

    version, title, needs, listed = "few_shot@1", "few-shot", _OF_CLASSES, "shots"
    kind: Literal["few_shot"] = "few_shot"
    shots: PositiveInt | _Counts = Field(5, description="labelled images a class; of several numbers each gives a row")
    draws: Annotated[int, Field(ge=2)] = Field(20, description="random draws; their spread is reported")


class Linear(ProtocolSpec):
    """Multinomial logistic regression on frozen features; its strength is chosen on a tenth of the train split."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    version, title, needs = "linear@1", "linear", _OF_CLASSES
    kind: Literal["linear"] = "linear"
    strengths: PositiveInt = Field(13, description="how many values of C between 1e-6 and 1e5 are tried")


class LowLabel(ProtocolSpec):
    """Logistic regression on a share of the labels, averaged over random draws of them."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2002.05709"
    version, title, needs, listed = "low_label@1", "low-label", _OF_CLASSES, "share"
    kind: Literal["low_label"] = "low_label"
    share: Share | _Shares = Field(0.1, description="of each class's labelled train images, at least one; of several, such as [0.01, 0.1], each gives a row")
    draws: Annotated[int, Field(ge=2)] = Field(5, description="random draws; their spread is reported")
    strengths: PositiveInt = Field(13, description="how many values of C between 1e-6 and 1e5 are tried")


class LinearProbe(ProtocolSpec):
    """A grid of linear heads by SGD over learning rate, last blocks and pooling, all on one pass; the best on held-out train images is reported."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    version, title, fitting = "linear_probe@1", "linear probe", True
    needs = _OF_CLASSES | {"network"}
    kind: Literal["linear_probe"] = "linear_probe"
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)] = Field(
        [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1], description="each is multiplied by batch_size / 256"
    )
    blocks: Annotated[list[PositiveInt], Field(min_length=1)] = Field([1, 4], description="how many last blocks of a ViT; a ConvNet has its last stage alone")
    average: Annotated[list[bool], Field(min_length=1)] = Field(
        [False, True], description="whether the mean patch token of the last block joins the CLS tokens"
    )
    steps: PositiveInt = Field(12_500, description="of SGD with momentum 0.9, cosine to 0")
    batch_size: PositiveInt = Field(128, description="features a step")


class MLPProbe(ProtocolSpec):
    """A head of two layers on frozen features; it stops where held-out train images stop to improve."""

    version, title, needs, fitting = "mlp_probe@1", "MLP probe", _OF_CLASSES, True
    kind: Literal["mlp_probe"] = "mlp_probe"
    width: PositiveFloat = Field(2.0, description="of the hidden layer, in feature dimensions; 2,048 units at most")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="between the layers")
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)] = Field([3e-4, 1e-3, 3e-3], description="of AdamW; the best on held-out images counts")
    epochs: PositiveInt = Field(100, description="at most")
    patience: PositiveInt = Field(10, description="epochs that are no better on held-out images after which a head stops")
    batch_size: PositiveInt = Field(256, description="features a step")
