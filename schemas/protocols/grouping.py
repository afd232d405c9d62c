"""Protocols that order images by their features alone: clusters, retrieval, copies."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from schemas.protocols.base import ProtocolSpec

First = Literal[1, 2, 4, 5, 8, 10, 20, 50, 100, 1000]
"""How many first ones of a ranking are looked at."""


class Clustering(ProtocolSpec):
    """k-means on the test images' features against their classes: accuracy under the best assignment, ARI, NMI and FMI."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.07832"
    version, title = "clustering@1", "clustering"
    needs = frozenset({"test labels"})
    kind: Literal["clustering"] = "clustering"
    clusters: Annotated[int, Field(ge=2)] | None = Field(None, description="as many as classes where not given")
    restarts: PositiveInt = Field(10, description="initialisations of each k-means, of which the one with the least inertia counts")
    draws: PositiveInt = Field(3, description="k-means with other seeds; their spread is reported")


class Retrieval(ProtocolSpec):
    """Test images look for images of their class: mAP and recall@k of the ranking by cosine."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1803.11285"
    version, title = "retrieval@1", "retrieval"
    needs = frozenset({"train labels", "test labels"})
    kind: Literal["retrieval"] = "retrieval"
    gallery: Literal["train", "test"] = Field("train", description="what is ranked: the labelled train images, or the other test images")
    recalls: Annotated[list[First], Field(min_length=1)] = Field([1, 5, 10], description="of how many first ones one must be right")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="how near two features are")


class CopyDetection(ProtocolSpec):
    """Edited copies of test images look for their originals among distractors: mAP, micro-AP and recall at 90% precision."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09672"
    version, title = "copy_detection@1", "copies"
    needs = frozenset({"test images"})
    kind: Literal["copy_detection"] = "copy_detection"
    originals: PositiveInt = Field(200, description="test images that are copied, at most half of them; as many others are copied without being references")
    distractors: PositiveInt = Field(2_000, description="train images among the references, at most half of them")
    whitening: bool = Field(False, description="centre and whiten all features first, by train images that are no references")
    normalisation: bool = Field(False, description="lower the scores of queries that are like train images that are no references")
