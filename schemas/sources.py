"""Where images come from."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from schemas.spec import Kinded, Spec


class Digits(Spec):
    """The 1,797 handwritten digits that ship inside scikit-learn, written out as 8x8 BMP files: needs no network."""

    kind: Literal["digits"] = "digits"
    path: str = Field("data/digits", description="where the files are written, relative to the workspace")


class Folder(Spec):
    """A folder of jpg, png, webp, bmp, tiff, gif or npy (uint8, H x W x channels) files, of any nesting; symlinks are not followed out of it."""

    kind: Literal["folder"] = "folder"
    path: str = Field(description="the folder, absolute or relative to the workspace")
    labels: bool = Field(False, description="true: the name of the folder that holds an image is its label")
    splits: bool = Field(False, description="true: the first folder level names the split (train, val, test)")
    holdout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share of images, chosen by their bytes, that becomes the test split")


class Torchvision(Spec):
    """A named torchvision data set, downloaded by torchvision's own code where there is a network."""

    kind: Literal["torchvision"] = "torchvision"
    name: str = Field(description="class name in torchvision.datasets, such as CIFAR10")
    root: str = Field(".sslflow/torchvision", description="where it is downloaded to, relative to the workspace")

    @field_validator("name")
    @classmethod
    def _is_a_class_name(cls, name: str) -> str:
        if not name.isidentifier():
            raise ValueError("must be the name of a class in torchvision.datasets, such as CIFAR10")
        return name


class Scenes(Spec):
    """Coloured shapes at random places on textured ground, drawn in code, with class, mask, boxes and depth."""

    kind: Literal["scenes"] = "scenes"
    count: PositiveInt = Field(512, description="how many images")
    size: Annotated[int, Field(ge=16, le=4096)] = Field(64, description="side in pixels")
    test: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="share that becomes the test split")
    seed: NonNegativeInt = Field(0, description="another seed draws other scenes")


Source = Annotated[Digits | Folder | Torchvision | Scenes, *Kinded]


def under_workspace(path: str) -> bool:
    """Whether a path of a source lies inside the workspace by its spelling."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts
