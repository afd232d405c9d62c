"""Stage: what every kind of stage is, and may say besides its own."""

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt

from schemas.artifacts import ArtifactType
from schemas.resources import Resources
from schemas.spec import Spec

Seed = Annotated[NonNegativeInt, Field(description="of everything random in the stage; the pipeline's where not given")]


class StageBase(Spec):
    """What every stage may say besides its own."""

    makes: ClassVar[ArtifactType]
    contract: ClassVar[int] = 1
    """Version of the code behind the stage: raised when the same config would make another artifact."""
    resources: Resources = Field(Resources(), description="where it runs, how long it may take, how often it is tried again")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the stage makes; one unnamed output for most."""
        return ("",)
