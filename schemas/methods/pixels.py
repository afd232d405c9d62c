"""Methods that predict pixels, or gradients of them, of what is masked."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from schemas.methods.masked import decoder_divides, exactly_one
from schemas.methods.spec import MethodSpec
from schemas.views import Views

Share = Annotated[float, Field(gt=0, lt=1)]
OneView = Annotated[Views, AfterValidator(exactly_one)]
_PLAIN = "one crop and flip of an image, without change of colours"


def _plain(smallest: float) -> Views:
    """One crop of at least that share of the area, and flip."""
    return Views(count=1, scale=(smallest, 1.0), jitter=0.0, grey=0.0, blur=0.0)


class SimMIM(MethodSpec):
    """Masked patches go in as mask tokens, and one linear layer tells their pixels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.09886"
    family = "masked"
    year = 2021
    exports = "encoder"
    architectures = ("vit", "swin")
    kind: Literal["simmim"] = "simmim"
    mask_ratio: Share = Field(0.6, description="share of the cells that are masked")
    cell: PositiveInt | None = Field(
        None,
        description="side of a cell, which is masked whole, in pixels: a multiple of the encoder's stride; where not given that nearest to a seventh of "
        "the image, which is the paper's 32 for 224 and 192 px",
    )
    views: OneView = Field(_plain(0.67), description=_PLAIN)


class MaskFeat(MethodSpec):
    """The histogram of oriented gradients of what is masked is told from the rest."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2112.09133"
    family = "masked"
    year = 2021
    exports = "encoder"
    architectures = ("vit",)
    kind: Literal["maskfeat"] = "maskfeat"
    mask_ratio: Share = Field(0.4, description="share of the patches that are masked, in blocks")
    cell: PositiveInt = Field(8, description="side of a cell that has a histogram of its own, in pixels: a divisor of the patch; a smaller patch is one cell")
    views: OneView = Field(_plain(0.5), description=_PLAIN)


class FCMAE(MethodSpec):
    """A masked autoencoder for ConvNets: what is masked stays empty through every layer of ConvNeXt V2."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2301.00808"
    family = "masked"
    year = 2023
    exports = "encoder"
    architectures = ("convnextv2",)
    kind: Literal["fcmae"] = "fcmae"
    mask_ratio: Share = Field(0.6, description="share of the parts, each as large as the encoder's stride, that are masked")
    decoder_width: PositiveInt = Field(512, description="width of the decoder, which is thrown away")
    decoder_depth: PositiveInt = Field(1, description="ConvNeXt blocks of the decoder")
    normalise_target: bool = Field(True, description="whether each part's pixels are brought to mean 0 and variance 1 before they are compared")
    views: OneView = Field(_plain(0.2), description=_PLAIN)


class UniformMasking(MethodSpec):
    """One patch of every four is kept, so that a pyramid encoder sees a dense smaller image, and some of those are masked."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2205.10063"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("swin",)
    kind: Literal["uniform_masking"] = "uniform_masking"
    visible_mask_ratio: Share = Field(0.25, description="share of the kept patches that a mask token stands for")
    decoder_width: PositiveInt = Field(512, description="width of the decoder, which is thrown away; a multiple of 4")
    decoder_depth: PositiveInt = Field(2, description="blocks of the decoder")
    decoder_heads: PositiveInt = Field(16, description="attention heads of the decoder")
    normalise_target: bool = Field(True, description="whether each patch's pixels are brought to mean 0 and variance 1 before they are compared")
    views: OneView = Field(_plain(0.2), description=_PLAIN)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        decoder_divides(self.decoder_width, self.decoder_heads)
        return self
