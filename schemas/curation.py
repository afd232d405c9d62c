"""What `curate` may do to a manifest, step by step."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from schemas.artifacts import Takes
from schemas.spec import Kinded, Spec


class Pixels(Spec):
    """Centred, L2-normalised pixels of the image shrunk to a square: an embedding that needs no model."""

    kind: Literal["pixels"] = "pixels"
    side: PositiveInt = Field(16, description="side of the square, in pixels")


class Encoded(Spec):
    """L2-normalised features of a Checkpoint of this pipeline."""

    kind: Literal["encoded"] = "encoded"
    checkpoint: Annotated[str, Takes("Checkpoint")] = Field(description="the stage that made it")


Embedding = Annotated[Pixels | Encoded, *Kinded]


class Integrity(Spec):
    """Quarantine what cannot be read or is no photograph: unreadable, truncated, wrong type, too small, absurd size."""

    kind: Literal["integrity"] = "integrity"
    min_side: PositiveInt = Field(8, description="shorter side below which an image is quarantined")
    max_pixels: Annotated[int, Field(gt=0, le=178_956_970)] = Field(
        178_956_970, description="width times height above which it is; at most Pillow's decompression-bomb limit"
    )
    max_aspect: Annotated[float, Field(ge=1)] = Field(20.0, description="longer over shorter side above which it is")


class ExactDuplicates(Spec):
    """Keep one image of each set with equal decoded pixels, whatever the file format."""

    kind: Literal["exact_duplicates"] = "exact_duplicates"


class Deduplicate(Spec):
    """Keep one image of each connected component of the graph of near duplicates (cosine above a threshold)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    kind: Literal["deduplicate"] = "deduplicate"
    similarity: Annotated[float, Field(gt=0, le=1)] = Field(0.97, description="cosine above which two images are near duplicates")
    neighbours: PositiveInt = Field(64, description="nearest neighbours looked at for each image (DINOv2: 64)")
    embedding: Embedding = Field(Pixels(), description="what similarity is measured on")


class Balance(Spec):
    """Cluster by k-means and sample the clusters evenly down to a target size."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2405.15613"
    kind: Literal["balance"] = "balance"
    keep: PositiveInt = Field(description="how many images remain; all of them where there are fewer")
    clusters: PositiveInt = Field(100, description="k of k-means")
    embedding: Embedding = Field(Pixels(), description="what similarity is measured on")


Step = Annotated[Integrity | ExactDuplicates | Deduplicate | Balance, *Kinded]
