"""Online distillation: students teach each other, their branches, or their own next epoch; there is no teacher before them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from schemas.distillers.spec import DistillerSpec, Share, Weight


class DML(DistillerSpec):
    """Deep mutual learning: labels, and the mean divergence from what the other students of the stage that learn so say now."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1706.00384"
    family = "online"
    year = 2018
    taught, of_scores, cohort = False, True, True
    kind: Literal["dml"] = "dml"
    peers: Weight = Field(1.0, description="weight of the divergence from the peers")

    @property
    def needs_labels(self) -> bool:
        return True


class ONE(DistillerSpec):
    """Branches over a shared trunk, whose gated ensemble teaches each of them; the first branch is the student that is kept."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1806.04606"
    family = "online"
    year = 2018
    taught, of_scores = False, True
    kind: Literal["one"] = "one"
    branches: Annotated[int, Field(ge=2)] = Field(3, description="the student among them")
    temperature: PositiveFloat = Field(3.0, description="T, of the ensemble's and the branches' softmaxes")
    rampup: Share = Field(80 / 300, description="share of the training over which the ensemble's weight rises as exp(-5 (1 - t)^2)")

    @property
    def needs_labels(self) -> bool:
        return True


class PSKD(DistillerSpec):
    """Targets are a mixture of the label and of what the student itself said of the image an epoch ago; its share grows."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2006.12000"
    family = "online"
    year = 2021
    taught, of_scores = False, True
    kind: Literal["ps_kd"] = "ps_kd"
    alpha: Share = Field(0.8, description="share of its own past at the end; it rises linearly from 0")

    @property
    def needs_labels(self) -> bool:
        return True
