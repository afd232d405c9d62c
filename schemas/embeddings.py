"""Vectors of images that curation compares."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from schemas.artifacts import Takes
from schemas.encoders import Encoder
from schemas.spec import Kinded, Spec, Unfit


class Pixels(Spec):
    """Centred, L2-normalised pixels of the image shrunk to a square: an embedding that needs no model."""

    kind: Literal["pixels"] = "pixels"
    side: PositiveInt = Field(16, description="side of the square, in pixels")


class Encoded(Spec):
    """L2-normalised features of a Checkpoint of this pipeline."""

    kind: Literal["encoded"] = "encoded"
    checkpoint: Annotated[str, Takes("Checkpoint")] = Field(description="the stage that made it")


class File(Spec):
    """L2-normalised features of a local file of weights: a timm state dict or a DINOv2-format checkpoint."""

    kind: Literal["file"] = "file"
    file: str = Field(description=".safetensors, .pth or .pt, relative to the workspace")
    encoder: Encoder = Field(description="the network that the weights are of")

    @field_validator("file")
    @classmethod
    def _is_a_file_of_weights(cls, file: str) -> str:
        if not file.endswith((".safetensors", ".pth", ".pt")):
            raise ValueError("must end in .safetensors, .pth or .pt")
        return file

    @field_validator("encoder")
    @classmethod
    def _has_no_neck(cls, encoder: Encoder) -> Encoder:
        for name in ("neck", "head", "whitening"):
            if getattr(encoder, name):
                raise Unfit(f"the file holds no weights of a {name}: leave it out", name)
        return encoder


Embedding = Annotated[Pixels | Encoded | File, *Kinded]
