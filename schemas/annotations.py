"""What is known of images besides their class: masks, depths, boxes, points, videos; where it lies and how it is written."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from schemas.spec import Kinded, Spec


class Drawn(Spec):
    """What the source `scenes` knows of the pictures that it drew."""

    kind: Literal["drawn"] = "drawn"


class MaskFolder(Spec):
    """A folder of mask images, indexed or grey, one an image, with the image's name; a pixel's value is its class."""

    kind: Literal["masks"] = "masks"
    path: str = Field(description="folder, relative to the workspace; the path of a mask below it, less its ending, is the end of its image's path")
    classes: list[str] = Field([], description="names of the values 0, 1, ...; numbered where not given")
    void: list[Annotated[int, Field(ge=0, le=255)]] = Field([255], description="values that count for nothing")


class DepthFolder(Spec):
    """A folder of depth images, one an image, with the image's name; a pixel's value is its depth."""

    kind: Literal["depths"] = "depths"
    path: str = Field(description="folder of 16-bit PNG or .npy files, relative to the workspace; each is found as a mask is")
    metre: PositiveFloat = Field(1000.0, description="the value of one metre; 0 is unknown")


class COCO(Spec):
    """A COCO annotation file: boxes and polygons or run-length masks of single objects."""

    kind: Literal["coco"] = "coco"
    file: str = Field(description="JSON, relative to the workspace; a `file_name` is the end of its image's path")


class VOC(Spec):
    """A folder of Pascal VOC annotation files, an XML an image, with the image's name."""

    kind: Literal["voc"] = "voc"
    path: str = Field(description="folder, relative to the workspace; each file is found as a mask is")


class Pairs(Spec):
    """A JSON file of image pairs: `[{"source": URI, "target": URI, "points": [[x, y, x', y'], ...]}, ...]`, in pixels."""

    kind: Literal["pairs"] = "pairs"
    file: str = Field(description="JSON, relative to the workspace")


class Videos(Spec):
    """A folder a video with its frames as images, in the order of their names, and a folder a video with indexed masks, as DAVIS has them."""

    kind: Literal["videos"] = "videos"
    frames: str = Field(description="folder of folders of images, relative to the workspace")
    masks: str = Field(description="folder of folders of masks; those of a video's first frame at least")


MaskAnnotations = Annotated[Drawn | MaskFolder | COCO, *Kinded]
DepthAnnotations = Annotated[Drawn | DepthFolder, *Kinded]
BoxAnnotations = Annotated[Drawn | COCO | VOC, *Kinded]
PointAnnotations = Annotated[Drawn | Pairs, *Kinded]
VideoAnnotations = Annotated[Drawn | Videos, *Kinded]


def places(protocols: Iterable[Spec]) -> list[tuple[str, str, str]]:
    """The files and folders that protocols and their annotations read, as written, each with its protocol's kind and the field that names it."""
    found = []
    for protocol in protocols:
        for prefix, owner in (("", protocol), ("annotations.", getattr(protocol, "annotations", None))):
            for field in ("path", "file", "frames", "masks"):
                if isinstance(path := getattr(owner, field, None), str):
                    found.append((getattr(protocol, "kind", ""), prefix + field, path))
    return found
