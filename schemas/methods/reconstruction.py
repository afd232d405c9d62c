"""Methods that rebuild what was taken from an image."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from schemas.methods.masked import exactly_one
from schemas.methods.spec import MethodSpec
from schemas.views import Probability, Views

OneView = Annotated[Views, AfterValidator(exactly_one)]
CROP = Views(count=1, scale=(0.2, 1.0), jitter=0.0, grey=0.0, blur=0.0)


class ContextEncoder(MethodSpec):
    """The missing middle of an image is painted from what surrounds it, so that a discriminator takes it for real."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1604.07379"
    family = "pretext"
    year = 2016
    exports = "encoder"
    kind: Literal["context_encoder"] = "context_encoder"
    overlap: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        1 / 16, description="of the middle that is painted, which share of its side is still seen at each border (paper 7 of 112 pixels, code 4 of 64)"
    )
    overlap_weight: PositiveFloat = Field(10.0, description="of the squared error at that border, over that of the hidden inside")
    adversarial: Probability = Field(0.001, description="weight of being taken for real; the squared error has the rest")
    decoder_width: PositiveInt = Field(512, description="of the decoder's first layers; it halves as the picture doubles")
    discriminator_width: PositiveInt = Field(64, description="of the discriminator's first layer; it doubles as the picture halves")
    views: OneView = Field(CROP, description="one crop and flip of an image, without change of colours")


class DenoisingAutoencoder(MethodSpec):
    """An image is rebuilt from a corrupted copy of it."""

    paper: ClassVar[str] = "https://www.jmlr.org/papers/v11/vincent10a.html"
    family = "pretext"
    year = 2008
    exports = "encoder"
    kind: Literal["denoising_autoencoder"] = "denoising_autoencoder"
    noise: Literal["masking", "gaussian", "salt_and_pepper"] = Field("masking", description="what is done to the copy")
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="of the pixels that are masked, or made black or white (paper: 0.1 to 0.4, by data set); of no effect on Gaussian noise"
    )
    sigma: PositiveFloat = Field(
        0.3, description="standard deviation of Gaussian noise, for pixels in [0, 1] (paper: 0.05 to 0.5, by data set); of no effect on others"
    )
    decoder_width: PositiveInt = Field(256, description="of the decoder's first layers; it halves as the picture doubles")
    views: OneView = Field(CROP, description="one crop and flip of an image, without change of colours")
