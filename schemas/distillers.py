"""How students learn from a frozen teacher."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from schemas.spec import Kinded, Spec
from schemas.views import Views


class Feature(Spec):
    """The student's projected features point where the teacher's do: 1 - cosine, on the same view, no labels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1412.6550"
    kind: Literal["feature"] = "feature"
    hidden: NonNegativeInt = Field(0, description="hidden width of the projection to the teacher's dimension; 0 makes it linear")
    center: bool = Field(True, description="take the teacher's mean off its features first: much of their cosine is what all images share")
    views: Views = Field(Views(count=1), description="the view that teacher and students see")


Distiller = Annotated[Feature, *Kinded[1:]]
