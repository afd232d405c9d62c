"""Where a training's weights come from, and the references that stages share."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, StringConstraints, model_validator
from pydantic_core import CoreSchema

from schemas.artifacts import Takes
from schemas.spec import Spec, Unfit

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
DatasetRef = Annotated[str, Takes("Dataset"), Field(description="the stage that made the images' manifest")]
CheckpointRef = Annotated[str, Takes("Checkpoint"), Field(description="the stage, or the output of one, that made the encoder")]

WEIGHT_FILES = (".safetensors", ".pth", ".pt")
"""How the names of files end that `init_from` reads."""


class InitFrom(Spec):
    """Trained weights that an encoder starts from: a stage's, which a bare name stands for, or a file's."""

    bare = "stage"
    stage: CheckpointRef | None = Field(None, description="the stage, or the output of one, whose encoder it starts from")
    file: str | None = Field(None, description=f"{', '.join(WEIGHT_FILES)}: a timm state dict or a DINOv2-format checkpoint, relative to the workspace")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, written: Any) -> Any:
        return {cls.bare: written} if isinstance(written, str) else written

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The bare name of a stage stands for `{stage: name}`."""
        return {"anyOf": [{"type": "string"}, handler(core)]}

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.stage is None) == (self.file is None):
            raise Unfit("init_from is the name of a stage, or {file: PATH}", "file", "stage")
        self._check_file()
        return self

    def _check_file(self) -> None:
        if self.file is not None and not self.file.endswith(WEIGHT_FILES):
            raise Unfit(f"'{self.file}' is none of {', '.join(WEIGHT_FILES)}", "file")


class StudentStart(InitFrom):
    """Trained weights that a student starts from: its teacher's own layers, a stage's, or a file's."""

    layers: Literal["every_second", "evenly", "first"] | None = Field(
        None,
        description="a ViT teacher's blocks that become the student's, of the same width: every second one, as many as it has evenly, or the first; "
        "of a ConvNet what has the same name and shape",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if sum(source is not None for source in (self.stage, self.file, self.layers)) != 1:
            raise Unfit("a student's init_from is the name of a stage, {file: PATH}, or {layers: every_second}", "layers", "file", "stage")
        self._check_file()
        return self
