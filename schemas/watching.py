"""How a training is watched from beside it: protocols that judge its encoder on the way."""

from typing import Annotated

from pydantic import Field, PositiveInt

from schemas.protocols import Protocol
from schemas.spec import Spec
from schemas.starts import DatasetRef


class Watch(Spec):
    """Protocols that judge the encoder whenever the monitors look, in a process beside the training. They draw a curve and choose nothing."""

    protocols: Annotated[list[Protocol], Field(min_length=1, description="how the encoder is judged as it is then")]
    dataset: DatasetRef | None = Field(None, description="the images that it is judged on; the stage's own where not given")
    sample: PositiveInt = Field(2000, description="images of each split that are used at most, drawn at random: it is judged on the CPU")
