"""Methods that predict the masked part of an image from the rest."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Views


def exactly_one(views: Views) -> Views:
    """The views, for a method that looks at one crop of an image."""
    if (views.count, views.local_count) != (1, 0):
        wrong = "count" if views.count != 1 else "local_count"
        raise Unfit("this method rebuilds one crop of an image: count must be 1 and local_count 0", wrong)
    return views


def decoder_divides(width: int, heads: int) -> None:
    """Whether a decoder of that width can have as many heads, and its positions."""
    if width % heads:
        raise Unfit(f"decoder_width {width} is not a multiple of decoder_heads {heads}", "decoder_width", "decoder_heads")
    if width % 4:
        raise Unfit(f"decoder_width {width} is not a multiple of 4, as its sine and cosine positions need", "decoder_width")


class MAE(MethodSpec):
    """The encoder sees a quarter of an image's patches, and a light decoder rebuilds the pixels of the others."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.06377"
    family = "masked"
    year = 2021
    exports = "encoder"
    architectures = ("vit",)
    kind: Literal["mae"] = "mae"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(0.75, description="share of the patches that the encoder does not see")
    decoder_width: PositiveInt = Field(512, description="width of the decoder, which is thrown away; a multiple of 4")
    decoder_depth: PositiveInt = Field(8, description="blocks of the decoder")
    decoder_heads: PositiveInt = Field(16, description="attention heads of the decoder")
    normalise_target: bool = Field(True, description="whether each patch's pixels are brought to mean 0 and variance 1 before they are compared")
    views: Annotated[Views, AfterValidator(exactly_one)] = Field(
        Views(count=1, scale=(0.2, 1.0), jitter=0.0, grey=0.0, blur=0.0), description="one crop and flip of an image, without change of colours"
    )

    @model_validator(mode="after")
    def _divides(self) -> Self:
        decoder_divides(self.decoder_width, self.decoder_heads)
        return self
