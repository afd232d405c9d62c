"""Methods that predict the cluster of one view from another."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.methods.spec import MethodSpec
from schemas.views import Views, two_or_more

Share = Annotated[float, Field(ge=0, le=1)]


class SwAV(MethodSpec):
    """Every crop predicts the code of another global crop: its balanced assignment to prototypes, by Sinkhorn over the batch."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2006.09882"
    family = "clustering"
    year = 2020
    exports = "encoder"
    smallest_batch = 256
    kind: Literal["swav"] = "swav"
    prototypes: PositiveInt = Field(3000, description="K, how many; fewer than the images of a batch and its queue balance best")
    hidden: PositiveInt = Field(2048, description="hidden width of the projector")
    output: PositiveInt = Field(128, description="dimension of the projection and of a prototype")
    temperature: PositiveFloat = Field(0.1, description="of the softmax over prototypes")
    epsilon: PositiveFloat = Field(0.05, description="of the Sinkhorn codes; larger makes them more uniform (paper, section 3.1)")
    iterations: PositiveInt = Field(3, description="of Sinkhorn; more balance the prototypes better")
    queue: NonNegativeInt = Field(0, description="embeddings of earlier batches a global crop that join the codes' balance (authors, batch 256: 3840)")
    queue_start: Share = Field(0.075, description="share of the training before which the queue is only filled (epoch 15 of 200)")
    freeze_prototypes: Share = Field(0.01, description="share of the training with frozen prototypes (1 of 100 epochs)")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(Views(preset="swav"), description="crops: global ones get codes, all predict them")


class DeepClusterV2(MethodSpec):
    """Every crop tells the cluster that k-means gave its image at the end of the last epoch."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2006.09882"
    family = "clustering"
    year = 2020
    exports = "encoder"
    needs = ("memory bank",)
    takes = ("images",)
    kind: Literal["deepcluster_v2"] = "deepcluster_v2"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class SeLa(MethodSpec):
    """Labels that are used alike are found by optimal transport, and the encoder learns to tell them."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1911.05371"
    family = "clustering"
    year = 2019
    exports = "encoder"
    needs = ("memory bank",)
    takes = ("images",)
    kind: Literal["sela"] = "sela"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class PCL(MethodSpec):
    """MoCo, and each view must find the centre of its image's cluster among those of others, at several granularities."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2005.04966"
    family = "clustering"
    year = 2020
    exports = "encoder"
    needs = ("negatives", "teacher", "queue", "memory bank")
    takes = ("images",)
    kind: Literal["pcl"] = "pcl"
    views: Views = Field(Views(count=2), description="how views are made of an image")
