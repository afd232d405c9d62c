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


Protocol = Annotated[KNN | FewShot | Linear | Rank, *Kinded]
