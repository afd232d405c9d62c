"""Methods that predict visual words of what is masked."""

from typing import ClassVar, Literal

from pydantic import Field

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
    views: Views = Field(Views(count=1), description="how views are made of an image")
