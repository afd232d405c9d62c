"""What a checkpoint is handed out as."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.spec import Spec

Format = Literal["timm", "onnx", "torch_export"]


class Registered(Spec):
    """A version of a model in MLflow's registry."""

    name: Annotated[str, Field(min_length=1)] = Field(description="of the registered model")
    alias: str | None = Field(None, description="that points to this version from now on, such as production")
