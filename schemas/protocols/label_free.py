"""Protocols that need no labels: what the geometry of the features alone tells."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from schemas.protocols.base import Need, ProtocolSpec
from schemas.spec import Unfit

_NETWORK: frozenset[Need] = frozenset({"network"})


class Rank(ProtocolSpec):
    """RankMe: the effective rank of the features, exp of the entropy of their normalised singular values."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2210.02885"
    version, title = "rank@1", "rank"
    kind: Literal["rank"] = "rank"
    samples: PositiveInt = Field(25_600, description="features looked at, of the train split")


class AlphaReQ(ProtocolSpec):
    """alpha-ReQ: the power by which the eigenvalues of the features' covariance decay; near 1 is desired."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.05808"
    version, title = "alpha_req@1", "alpha-ReQ"
    kind: Literal["alpha_req"] = "alpha_req"
    samples: PositiveInt = Field(25_600, description="features looked at, of the train split")
    first: PositiveInt = Field(4, description="eigenvalues from this one on are fitted, of which the largest is 1")
    last: PositiveInt = Field(100, description="to this one, or the last that is above rounding")

    @model_validator(mode="after")
    def _three_or_more(self) -> Self:
        if self.last < self.first + 2:
            raise Unfit(f"first {self.first} to last {self.last} are fewer than three eigenvalues, too few for a slope: raise last", "last", "first")
        return self


class LiDAR(ProtocolSpec):
    """LiDAR: the effective rank of what tells images apart, whitened by what differs between views of one image."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2312.04000"
    version, title, needs = "lidar@1", "LiDAR", _NETWORK
    kind: Literal["lidar"] = "lidar"
    images: Annotated[int, Field(ge=2)] = Field(1_000, description="of the train split, each its own class")
    views: Annotated[int, Field(ge=2)] = Field(10, description="of each image, augmented (paper: 50)")
    delta: PositiveFloat = Field(1e-4, description="added to the diagonal of the covariance within images")


class AlignmentUniformity(ProtocolSpec):
    """How near two views of an image lie on the sphere, and how evenly images cover it."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2005.10242"
    version, title, needs = "alignment_uniformity@1", "geometry", _NETWORK
    kind: Literal["alignment_uniformity"] = "alignment_uniformity"
    samples: Annotated[int, Field(ge=2)] = Field(2_048, description="images looked at, of the train split")


class Rotation(ProtocolSpec):
    """Rotation probe: a linear head tells by which quarter turns an image was rotated; void where training rotated images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2009.07724"
    version, title = "rotation@1", "rotation"
    needs = _NETWORK | {"test images"}
    kind: Literal["rotation"] = "rotation"
    samples: PositiveInt = Field(
        2_000, description="train images that the head is fitted to and test images that it is judged on, at most; each in four rotations"
    )


class Spectrum(ProtocolSpec):
    """Dimensional collapse: the singular values of the features' covariance, at the backbone and where it can be told at the projector."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2110.09348"
    version, title = "spectrum@1", "spectrum"
    kind: Literal["spectrum"] = "spectrum"
    samples: PositiveInt = Field(25_600, description="features looked at, of the train split")
    share: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-5, description="of the largest singular value that one must exceed to count as a dimension; the paper shows the spectrum and names none"
    )
