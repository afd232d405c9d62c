"""What `curate` may do to a manifest, step by step."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from schemas.artifacts import Takes
from schemas.conditions import parse
from schemas.embeddings import Embedding
from schemas.spec import Kinded, Spec, Unfit

Measured = Annotated[
    Embedding | None, Field(description="what likeness is measured on; that of the last `embed` step before where not given, `pixels` where there is none")
]
Share = Annotated[float, Field(ge=0, lt=1)]


class Integrity(Spec):
    """Quarantine what cannot be read or is no photograph: unreadable, truncated, wrong type, too small, absurd size, blank."""

    kind: Literal["integrity"] = "integrity"
    min_side: PositiveInt = Field(8, description="shorter side below which an image is quarantined")
    max_pixels: Annotated[int, Field(gt=0, le=178_956_970)] = Field(
        178_956_970, description="width times height above which it is; at most Pillow's decompression-bomb limit"
    )
    max_aspect: Annotated[float, Field(ge=1)] = Field(20.0, description="longer over shorter side above which it is")
    min_contrast: Annotated[float, Field(ge=0)] = Field(1.0, description="standard deviation of grey, of 0 to 255, below which it is blank")


class ExactDuplicates(Spec):
    """Keep one image of each set with equal decoded pixels, whatever the file format."""

    kind: Literal["exact_duplicates"] = "exact_duplicates"


class PerceptualDuplicates(Spec):
    """Keep one image of each set of images whose perceptual hashes are alike: no model needed; finds re-encoded and resized copies, not crops."""

    kind: Literal["perceptual_duplicates"] = "perceptual_duplicates"
    hash: Literal["phash", "dhash"] = Field("phash", description="phash: signs of the lowest frequencies of a 32x32 picture; dhash: of a 9x8 one's gradients")
    distance: Annotated[int, Field(ge=0, le=16)] = Field(5, description="of 64 bits, how many may differ between two images that count as the same")


class Embed(Spec):
    """Make the vectors that later steps compare; those of images seen before are kept from then."""

    kind: Literal["embed"] = "embed"
    embedding: Embedding = Field(description="what makes them")


class Precision(Spec):
    """A cosine chosen so that, of pairs above it, so many are copies: judged on copies made from the pool itself by known edits."""

    precision: Annotated[float, Field(gt=0.5, lt=1)] = Field(description="share of the pairs above the threshold that are to be copies")
    copies: PositiveInt = Field(1000, description="images of which copies are made")


Threshold = Annotated[
    Annotated[float, Field(gt=0, le=1)] | Precision, Field(description="cosine from which two images are near duplicates, or `{precision: 0.99}`")
]


class Deduplicate(Spec):
    """Keep one image of each component of the graph of near duplicates (cosine above a threshold)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    kind: Literal["deduplicate"] = "deduplicate"
    threshold: Threshold = 0.97
    neighbours: PositiveInt = Field(64, description="nearest neighbours looked at for each image (DINOv2: 64)")
    linkage: Literal["single", "complete"] = Field(
        "single", description="single: joins chain, as in DINOv2; complete: a component is split until any two of its images are near duplicates"
    )
    index: Literal["auto", "flat", "ivf", "hnsw", "ivfpq"] = Field("auto", description="how neighbours are searched; auto: exactly where that is quick")
    embedding: Measured = None


class Leakage(Spec):
    """Drop, or flag, train images that are near duplicates of images they will be evaluated on."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    kind: Literal["leakage"] = "leakage"
    against: list[Annotated[str, Takes("Dataset")]] = Field([], description="stages that made the evaluation sets; besides, the dataset's own other splits")
    splits: Annotated[list[str], Field(min_length=1)] = Field(["val", "test"], description="which splits of the sets named are evaluated on")
    threshold: Threshold = 0.97
    action: Literal["drop", "flag"] = Field("drop", description="flag: keep them, and say so in every report on a model trained on them")
    embedding: Measured = None


class Retrieve(Spec):
    """Keep of the pool what lies near a seed set."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    kind: Literal["retrieve"] = "retrieve"
    seeds: Annotated[str, Takes("Dataset")] = Field(description="the stage that made the seed set; its kept train images are the seeds")
    mode: Literal["nearest", "clusters"] = Field(
        "nearest", description="nearest: of each seed its neighbours; clusters: samples of the clusters that seeds fall in"
    )
    neighbours: PositiveInt = Field(4, description="nearest: pool images a seed (LVD-142M: 4, or 32 for ImageNet-1k)")
    clusters: PositiveInt = Field(100, description="clusters: k of k-means on the pool (LVD-142M: 100,000)")
    seeds_per_cluster: PositiveInt = Field(4, description="clusters: seeds that a cluster must hold to be sampled (LVD-142M: more than 3)")
    per_cluster: PositiveInt = Field(10_000, description="clusters: images taken of one at most")
    keep: PositiveInt | None = Field(None, description="images taken in all at most, in turns over seeds or clusters (LVD-142M: 1,000,000)")
    embedding: Measured = None


class Resample(Spec):
    """Move centroids towards a uniform spread over what the images cover: k-means again, on the images nearest to each centroid alone."""

    times: NonNegativeInt = Field(10, description="how often (paper: 10); 0 is plain k-means")
    points: PositiveInt | None = Field(None, description="images nearest to each centroid; half of a mean cluster where not given")


class Cluster(Spec):
    """Cluster the images by k-means, of several levels where several numbers are given."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2405.15613"
    kind: Literal["cluster"] = "cluster"
    clusters: PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        100, description="k of k-means; with a list, of each level, the finest first: [1000, 50] clusters the 1,000 centroids again"
    )
    resample: Resample = Field(Resample(), description="at every level above images; also at the first where there are several")
    iterations: PositiveInt = Field(25, description="of k-means (paper: 50)")
    embedding: Measured = None

    @model_validator(mode="after")
    def _levels_shrink(self) -> Self:
        levels = self.clusters if isinstance(self.clusters, list) else [self.clusters]
        if any(upper >= lower for lower, upper in pairwise(levels)):
            raise Unfit(f"each level has fewer clusters than the one before, not {levels}", "clusters")
        return self


class Balance(Spec):
    """Sample clusters evenly down to a target size: those of the `cluster` step before, or of plain k-means made here."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2405.15613"
    kind: Literal["balance"] = "balance"
    keep: PositiveInt = Field(description="how many images remain; all of them where there are fewer")
    clusters: PositiveInt | None = Field(
        None, description="k of a plain k-means; where not given, the tree of the last `cluster` step is sampled, or k is 100 if there is none"
    )
    pick: Literal["random", "closest"] = Field("random", description="which images of a cluster: by chance, or those nearest to its centroid")
    embedding: Measured = None


class Typical(Spec):
    """Keep the most typical images of each cluster: those whose neighbours are nearest."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.02794"
    kind: Literal["typical"] = "typical"
    keep: PositiveInt = Field(description="how many images remain; all of them where there are fewer")
    clusters: PositiveInt | None = Field(
        None, description="k of k-means, from which images are taken in turns; as many as are kept where not given, at most 500"
    )
    neighbours: PositiveInt = Field(20, description="over which the mean distance is taken (paper: 20)")
    embedding: Measured = None


class Diverse(Spec):
    """Keep a spread of images by k-center greedy: each next one is the farthest from those that are kept."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1708.00489"
    kind: Literal["diverse"] = "diverse"
    keep: PositiveInt = Field(description="how many images remain; all of them where there are fewer")
    embedding: Measured = None


class Filter(Spec):
    """Keep the images of which a condition on the manifest's columns holds."""

    kind: Literal["filter"] = "filter"
    where: Annotated[str, Field(min_length=1)] = Field(
        description="such as `width >= 224 and sharpness > 20`: comparisons, `and`, `or`, `not`, `in [..]`, `is null`; a provenance column stands in backticks,"
        " as in `` `3_leakage.similarity` < 0.9 ``; an image without a value meets no comparison with it"
    )

    @model_validator(mode="after")
    def _states_a_condition(self) -> Self:
        try:
            parse(self.where)
        except ValueError as error:
            raise Unfit(f"{error}", "where") from error
        return self


class Split(Spec):
    """Set kept train images aside as val and test, whole groups at a time, so that near duplicates never lie on both sides."""

    kind: Literal["split"] = "split"
    val: Share = Field(0.0, description="share of the kept train images that becomes the split `val`")
    test: Share = Field(0.1, description="share that becomes the split `test`")
    by: str = Field("near_duplicates", description="what stays together: near_duplicates, or images of one value in a column, such as cluster or label")
    threshold: Annotated[float, Field(gt=0, le=1)] = Field(0.97, description="near_duplicates: cosine from which two images are")
    stratify: bool = Field(True, description="whether each label keeps its share in every split, as far as whole groups allow; of no effect without labels")
    embedding: Measured = None

    @model_validator(mode="after")
    def _sets_aside_a_part(self) -> Self:
        if not 0 < self.val + self.test < 1:
            raise Unfit(f"val {self.val:g} and test {self.test:g} must leave some images to train on, and set some aside", "val", "test")
        return self


Step = Annotated[
    Integrity | ExactDuplicates | PerceptualDuplicates | Embed | Deduplicate | Leakage | Retrieve | Cluster | Balance | Typical | Diverse | Filter | Split,
    *Kinded,
]


def most_kept(steps: list[Step]) -> list[int]:
    """Bounds on how many images the steps leave, of each step that states one."""
    return [keep for step in steps if (keep := getattr(step, "keep", None))]
