"""Methods that predict visual words of what is masked."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from schemas.artifacts import Takes
from schemas.methods.masked import exactly_one
from schemas.methods.spec import MethodSpec
from schemas.views import Views


class BEiT(MethodSpec):
    """At masked patches the visual word is told that a tokenizer, trained before, gives them."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.08254"
    family = "masked"
    year = 2021
    exports = "encoder"
    architectures = ("vit",)
    needs = ("tokenizer",)
    takes = ("tokenizer",)
    kind: Literal["beit"] = "beit"
    tokenizer: Annotated[str, Takes("Tokenizer")] = Field(description="the stage that trained the words, of the encoder's image_size, patch_size and channels")
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(0.4, description="share of the patches that are masked, in blocks (the authors' code: 75 of 196)")
    views: Annotated[Views, AfterValidator(exactly_one)] = Field(
        Views(count=1, jitter=0.0, grey=0.0, blur=0.0),
        description="one crop and flip of an image; words are told of it before any change of colour (the authors' code has a jitter of 0.4 before both)",
    )
