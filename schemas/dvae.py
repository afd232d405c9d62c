"""The network of a tokenizer: what tells an image in words, one a patch."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, PositiveInt, model_validator

from schemas.spec import Spec, Unfit


class DVAE(Spec):
    """A discrete VAE: a small ConvNet that tells an image as a grid of words, and one that draws it again from them. Its defaults are for 224 px."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2102.12092"
    image_size: PositiveInt = Field(224, description="side of the square image that it is fed, in pixels: that of the encoder that learns its words")
    patch_size: PositiveInt = Field(16, description="side of the square that a word stands for, in pixels: the encoder's patch (the paper: 8)")
    channels: PositiveInt = Field(3, description="input channels: 3 reads images as RGB, 1 as grey; the encoder's")
    vocabulary: Annotated[int, Field(ge=2)] = Field(8192, description="words that there are; some hundreds for thousands of small images")
    dim: PositiveInt = Field(128, description="numbers that the decoder reads a word as")
    width: PositiveInt = Field(64, description="channels at full resolution, twice as many after each pooling (the paper: 256)")
    depth: PositiveInt = Field(2, description="residual blocks before each pooling, and in the decoder after each word is spread out")

    @property
    def grid(self) -> int:
        """Words along a side."""
        return self.image_size // self.patch_size

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.image_size % self.patch_size:
            raise Unfit(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}", "image_size", "patch_size")
        return self
