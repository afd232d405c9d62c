"""Methods that predict the cluster of one view from another."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, Strict

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Views, exactly_two, two_or_more

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


def _one_or_more(views: Views) -> Views:
    """The views, for a method that tells the label of an image from every crop of it."""
    if views.local_count:
        raise Unfit("this method tells an image's label from global crops alone: local_count must be 0", "local_count")
    return views


class DeepClusterV2(MethodSpec):
    """Every crop tells the cluster that k-means gave its image at the end of the last epoch."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2006.09882"
    family = "clustering"
    year = 2020
    exports = "encoder"
    needs = ("memory bank",)
    takes = ("images",)
    kind: Literal["deepcluster_v2"] = "deepcluster_v2"
    clusters: PositiveInt = Field(3000, description="K of each head; fewer than the images (authors, ImageNet: 3000)")
    heads: PositiveInt = Field(3, description="sets of prototypes, each of a k-means of its own")
    kmeans_iterations: PositiveInt = Field(10, description="of k-means, each time that the images are clustered")
    hidden: PositiveInt = Field(2048, description="hidden width of the projector")
    output: PositiveInt = Field(128, description="dimension of the projection and of a prototype")
    temperature: PositiveFloat = Field(0.1, description="of the softmax over prototypes")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(
        Views(preset="swav"), description="crops: global ones are remembered and clustered, all tell the cluster"
    )


class SeLa(MethodSpec):
    """Labels that are used alike are found by optimal transport, and the encoder learns to tell them."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1911.05371"
    family = "clustering"
    year = 2019
    exports = "encoder"
    needs = ("memory bank",)
    takes = ("images",)
    kind: Literal["sela"] = "sela"
    clusters: PositiveInt = Field(3000, description="K, labels of each head; fewer than the images (paper, ImageNet: 3000)")
    heads: PositiveInt = Field(10, description="classifiers, each with labels of its own (paper: 10, and 1)")
    sharpness: PositiveFloat = Field(25.0, description="lambda of the optimal transport; lower makes labels softer while they are balanced")
    sinkhorn_iterations: PositiveInt = Field(100, description="of the optimal transport (paper: until it stands still)")
    updates: Annotated[int, Field(ge=2)] = Field(100, description="times that labels are found anew, most of them early: evenly in the root of the progress")
    views: Annotated[Views, AfterValidator(_one_or_more)] = Field(
        Views(preset="moco_v1", count=1, scale=(0.08, 1.0)), description="crops that tell the label, one in the paper"
    )


class PCL(MethodSpec):
    """MoCo, and each view must find the centre of its image's cluster among those of others, at several granularities."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2005.04966"
    family = "clustering"
    year = 2020
    exports = "encoder"
    needs = ("negatives", "teacher", "queue", "memory bank")
    takes = ("images",)
    kind: Literal["pcl"] = "pcl"
    granularities: Annotated[tuple[PositiveInt, ...], Strict(False), Field(min_length=1)] = Field(
        (25000, 50000, 100000), description="clusters of each clustering, all fewer than the images (paper, ImageNet: an image in 51, 26 and 13)"
    )
    kmeans_iterations: PositiveInt = Field(20, description="of k-means, each time that the images are clustered")
    alpha: PositiveFloat = Field(10.0, description="smooths the concentration of small clusters")
    warmup: Share = Field(0.1, description="share of the training without clusters (20 of 200 epochs)")
    temperature: PositiveFloat = Field(0.2, description="of InfoNCE, and the mean of the clusters' concentrations (paper, v1: 0.1)")
    momentum: Annotated[float, Field(ge=0, le=1)] = Field(0.999, description="of the moving average that makes keys and what is clustered")
    queue: PositiveInt = Field(16384, description="keys that are negatives; whole batches")
    hidden: PositiveInt = Field(2048, description="hidden width of the projector (v2; v1 has none)")
    output: PositiveInt = Field(128, description="dimension of queries, keys and prototypes")
    views: Annotated[Views, AfterValidator(exactly_two)] = Field(Views(preset="moco_v2"), description="how query and key are made of an image")
