"""Methods that rebuild what was taken from an image."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class ContextEncoder(MethodSpec):
    """The missing middle of an image is painted from what surrounds it, so that a discriminator takes it for real."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1604.07379"
    family = "pretext"
    year = 2016
    exports = "encoder"
    kind: Literal["context_encoder"] = "context_encoder"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class DenoisingAutoencoder(MethodSpec):
    """An image is rebuilt from a corrupted copy of it."""

    paper: ClassVar[str] = "https://www.jmlr.org/papers/v11/vincent10a.html"
    family = "pretext"
    year = 2008
    exports = "encoder"
    kind: Literal["denoising_autoencoder"] = "denoising_autoencoder"
    views: Views = Field(Views(count=1), description="how views are made of an image")
