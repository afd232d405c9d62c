"""What a model takes to run."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from schemas.protocols.base import Need, ProtocolSpec


class Cost(ProtocolSpec):
    """What a model takes to run: parameters, FLOPs of an image, size of its weights, and latency and throughput as measured on the machine at hand."""

    version, title = "cost@1", "cost"
    needs: ClassVar[frozenset[Need]] = frozenset({"network"})
    kind: Literal["cost"] = "cost"
    batch: PositiveInt = Field(64, description="images at once, for the throughput; latency is that of one image")
    repeats: PositiveInt = Field(30, description="timed passes, of which the median counts; fewer where they take more than ten seconds")
