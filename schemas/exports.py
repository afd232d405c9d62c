"""What a checkpoint is handed out as."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.spec import Spec, Unfit

Format = Literal["timm", "onnx", "torch_export"]


class Registered(Spec):
    """A version of a model in MLflow's registry."""

    name: Annotated[str, StringConstraints(pattern=r"^[^/:]+$", max_length=250)] = Field(description="of the registered model, without `/` and `:`")
    alias: Annotated[str, StringConstraints(pattern=r"^[\w-]+$", max_length=250)] | None = Field(
        None, description="that points to this version from now on, such as production"
    )

    @model_validator(mode="after")
    def _names_no_version(self) -> Self:
        if self.alias and re.fullmatch(r"latest|v\d+", self.alias, re.IGNORECASE):
            raise Unfit(f"MLflow keeps '{self.alias}' for versions: take another alias, such as production", "alias")
        return self
