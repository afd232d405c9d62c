"""Methods that predict what a teacher says of what is masked."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.methods.spec import MethodSpec
from schemas.views import Views


class Data2Vec(MethodSpec):
    """At masked patches the student tells the averaged upper layers of an EMA teacher that sees everything."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.03555"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["data2vec"] = "data2vec"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class Data2Vec2(MethodSpec):
    """data2vec whose encoder sees only what is not masked, for several masks of an image at the cost of one teacher."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2212.07525"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["data2vec2"] = "data2vec2"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class IJEPA(MethodSpec):
    """From the patches of one block, what an EMA teacher says of other blocks is predicted, in features and not in pixels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2301.08243"
    family = "masked"
    year = 2023
    exports = "teacher encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["i_jepa"] = "i_jepa"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class DBOT(MethodSpec):
    """Masked features of a frozen teacher are told; then the student becomes the teacher, and a new student begins."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2209.03917"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["dbot"] = "dbot"
    views: Views = Field(Views(count=1), description="how views are made of an image")


class MSN(MethodSpec):
    """A view of which patches are dropped is assigned to the same prototypes as an unmasked view, all of which are used alike."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2204.07141"
    family = "self-distillation"
    year = 2022
    exports = "teacher encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["msn"] = "msn"
    views: Views = Field(Views(count=2), description="how views are made of an image")


class PMSN(MethodSpec):
    """MSN whose prototypes are used as a chosen prior says, such as a power law for images of unlike frequency."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2210.07277"
    family = "self-distillation"
    year = 2022
    exports = "teacher encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["pmsn"] = "pmsn"
    views: Views = Field(Views(count=2), description="how views are made of an image")
