"""Protocols that read patches: segmentation, depth, detection, and what moves from image to image by patches alone."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from schemas.annotations import BoxAnnotations, DepthAnnotations, MaskAnnotations, PointAnnotations, VideoAnnotations
from schemas.protocols.base import Need, ProtocolSpec

_PATCHES: frozenset[Need] = frozenset({"network", "test images"})


class Segmentation(ProtocolSpec):
    """Mean IoU of a linear head on frozen patch features, at the images' own size by sliding windows."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    version, title, needs, fitting = "segmentation@1", "segmentation", _PATCHES, True
    kind: Literal["segmentation"] = "segmentation"
    annotations: MaskAnnotations = Field(description="the masks")
    steps: PositiveInt = Field(2_000, description="of AdamW (DINOv3: 40,000 of 16 crops)")
    batch_size: PositiveInt = Field(16, description="crops a step")
    learning_rate: PositiveFloat = Field(1e-3, description="highest, of AdamW")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-3, description="of AdamW")
    stride: Annotated[float, Field(gt=0, le=1)] = Field(2 / 3, description="between two windows, in window sides")


class Depth(ProtocolSpec):
    """Monocular depth by a linear head on frozen patch features: RMSE, absolute relative error and delta1."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    version, title, needs, fitting = "depth@1", "depth", _PATCHES, True
    kind: Literal["depth"] = "depth"
    annotations: DepthAnnotations = Field(description="the depths")
    bins: PositiveInt = Field(256, description="of equal width between the limits; depth is their mean under the head's weights")
    nearest: PositiveFloat = Field(0.001, description="lower limit, in metres")
    farthest: PositiveFloat = Field(10.0, description="upper limit, in metres")
    steps: PositiveInt = Field(2_000, description="of AdamW (DINOv3: 38,400 of 16 crops)")
    batch_size: PositiveInt = Field(16, description="crops a step")
    learning_rate: PositiveFloat = Field(3e-4, description="highest, of AdamW")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="of AdamW")


class Detection(ProtocolSpec):
    """COCO-style AP of torchvision's Faster R-CNN, or Mask R-CNN where masks are annotated, on the encoder."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1703.06870"
    version, title, needs, fitting = "detection@1", "detection", _PATCHES, True
    kind: Literal["detection"] = "detection"
    annotations: BoxAnnotations = Field(description="the boxes, and masks of single objects where they have any")
    masks: bool = Field(False, description="predict masks of single objects too (Mask R-CNN)")
    frozen: bool = Field(True, description="whether the encoder stays as it is; else it is trained along")
    steps: PositiveInt = Field(2_000, description="of training")
    batch_size: PositiveInt = Field(8, description="images a step")
    learning_rate: PositiveFloat = Field(1e-3, description="highest, of AdamW; a tenth of it for an encoder that is trained along")
    width: PositiveInt = Field(256, description="channels of the feature pyramid; the head of the boxes is four times as wide")
    size: PositiveInt | None = Field(None, description="shorter side in pixels that images are resized to; their own where left out")


class Propagation(ProtocolSpec):
    """Masks of a video's first frame carried on by nearest patches, without training: J, F and their mean."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.14294"
    version, title = "propagation@1", "propagation"
    needs: ClassVar[frozenset[Need]] = frozenset({"network"})
    kind: Literal["propagation"] = "propagation"
    annotations: VideoAnnotations = Field(description="frames and their masks")
    context: PositiveInt = Field(7, description="earlier frames that masks are carried from, besides the first")
    neighbours: PositiveInt = Field(5, description="most similar patches that a patch takes its mask from")
    radius: PositiveInt = Field(12, description="in patches, beyond which no patch is looked at")
    temperature: PositiveFloat = Field(0.1, description="of the weights exp(cosine / temperature)")
    size: PositiveInt | None = Field(None, description="shorter side in pixels that frames are resized to; their own where left out")


class Correspondence(ProtocolSpec):
    """Keypoints found again in another image by nearest patches, without training: PCK."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.14294"
    version, title = "correspondence@1", "correspondence"
    needs: ClassVar[frozenset[Need]] = frozenset({"network"})
    kind: Literal["correspondence"] = "correspondence"
    annotations: PointAnnotations = Field(description="pairs of images with the same points in both")
    threshold: PositiveFloat = Field(0.1, description="share of the longer image side within which a point counts as found")
    size: PositiveInt | None = Field(None, description="shorter side in pixels that images are resized to; their own where left out")
