"""Spec: the one base of everything that YAML may say, and the tagged unions that are made of it."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, Strict, model_validator
from pydantic_core import CoreSchema

Pair = Annotated[tuple[float, float], Strict(False)]
"""Two numbers, written as a list in YAML."""


class Spec(BaseModel):
    """A frozen, strictly typed mapping without unknown keys.

    The first line of a subclass's docstring is what `sslflow methods` and the YAML reference say of it; `paper` is its source.
    """

    @model_validator(mode="before")
    @classmethod
    def _keep_what_is_not_written(cls, written: Any) -> Any:
        """A part that is written in part keeps its field's own defaults: DINO's `views: {flip: 0}` still crops as DINO does."""
        if not isinstance(written, dict):
            return written
        parts = {}
        for name, value in written.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            part = type(default).spelled_out(value) if isinstance(default, Spec) else value
            if isinstance(default, Spec) and isinstance(part, dict) and part.get("kind") == getattr(default, "kind", None):
                parts[name] = {**default.model_dump(exclude_unset=True), **part}
        return {**written, **parts}

    @classmethod
    def spelled_out(cls, written: Any) -> Any:
        """What is written of a part, with any shorthand for several values replaced by these."""
        return written

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)
    paper: ClassVar[str] = ""
    bare: ClassVar[str] = "kind"
    """The key that a bare string in place of the mapping is the value of."""


class Unfit(ValueError):
    """A value that does not fit its neighbours.

    `blame` lists the keys that may be at fault, dotted and relative to the mapping that is validated: the error is placed
    at the first that the user wrote.
    """

    def __init__(self, message: str, *blame: str) -> None:
        super().__init__(message)
        self.blame = blame


class Shorthand:
    """Mark of a union told apart by `kind`: the bare string `x` means `{kind: x}`, in YAML and in its JSON Schema."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        union = handler(core)
        members = [handler.resolve_ref_schema(member) for member in union.get("oneOf", [union])]
        bare = [member["properties"]["kind"]["const"] for member in members if "required" not in member]
        return {"anyOf": [{"enum": bare}, union]} if bare else union


def from_kind(value: Any) -> Any:
    """Turn the bare string `x` into `{kind: x}`; leave anything else as it is."""
    return {"kind": value} if isinstance(value, str) else value


Kinded = (Field(discriminator="kind"), BeforeValidator(from_kind), Shorthand())
"""Annotations of every union: `Annotated[A | B, *Kinded]`."""
