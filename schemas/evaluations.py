"""How frozen features are judged. A protocol's id names its version: results under different ids are never compared."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from schemas.spec import Kinded, Spec


class KNN(Spec):
    """Weighted nearest-neighbour vote over the labelled train split, cosine on L2-normalised features."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1805.01978"
    version: ClassVar[str] = "knn@1"
    kind: Literal["knn"] = "knn"
    k: PositiveInt = Field(20, description="neighbours that vote")
    temperature: PositiveFloat = Field(0.07, description="of the vote's weights exp(similarity / temperature)")


class FewShot(Spec):
    """Nearest neighbour among a few labelled images a class, averaged over random draws."""

    version: ClassVar[str] = "few_shot@1"
    kind: Literal["few_shot"] = "few_shot"
    shots: PositiveInt = Field(5, description="labelled images a class")
    draws: Annotated[int, Field(ge=2)] = Field(20, description="random draws; their spread is reported")


class Linear(Spec):
    """Multinomial logistic regression on frozen features; its strength is chosen on a tenth of the train split."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    version: ClassVar[str] = "linear@1"
    kind: Literal["linear"] = "linear"
    strengths: PositiveInt = Field(13, description="how many values of C between 1e-6 and 1e5 are tried")


class Rank(Spec):
    """RankMe: the effective rank of the features, exp of the entropy of their normalised singular values."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2210.02885"
    version: ClassVar[str] = "rank@1"
    kind: Literal["rank"] = "rank"
    samples: PositiveInt = Field(25_600, description="features looked at, of the train split")


class Accuracy(Spec):
    """Share of the test images whose class a classifier's own head names; one of a class that it does not know counts as wrong."""

    version: ClassVar[str] = "accuracy@1"
    kind: Literal["accuracy"] = "accuracy"


class Fidelity(Spec):
    """How much a student classifier says what its teacher says: the share of test images that both give one class, and the mean KL(teacher || student)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.05945"
    version: ClassVar[str] = "fidelity@1"
    kind: Literal["fidelity"] = "fidelity"


class Calibration(Spec):
    """How far a classifier's confidence is from its accuracy: ECE and NLL, before and after a temperature that is fitted to held-out images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1706.04599"
    version: ClassVar[str] = "calibration@1"
    kind: Literal["calibration"] = "calibration"
    bins: PositiveInt = Field(15, description="of equal width, in which confidence and accuracy are compared")


class Cost(Spec):
    """What a model takes to run: parameters, FLOPs of an image, size of its weights, and latency and throughput as measured on the machine at hand."""

    version: ClassVar[str] = "cost@1"
    kind: Literal["cost"] = "cost"
    batch: PositiveInt = Field(64, description="images at once, for the throughput; latency is that of one image")
    repeats: PositiveInt = Field(30, description="timed passes, of which the median counts; fewer where they take more than ten seconds")


Protocol = Annotated[KNN | FewShot | Linear | Rank | Accuracy | Fidelity | Calibration | Cost, *Kinded]
OF_CLASSIFIERS = (Accuracy, Fidelity, Calibration)
"""Protocols that judge a classifier's head, not the features of any encoder."""
