"""Methods that pull two views of an image together and push other images away."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from schemas.methods.spec import MethodSpec
from schemas.views import Probability, Views, exactly_two

Momentum = Annotated[float, Field(ge=0, le=1)]
TwoViews = Annotated[Views, AfterValidator(exactly_two)]


class SimCLR(MethodSpec):
    """Two views of an image are each other's positive; every other view of the batch is a negative."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2002.05709"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    smallest_batch = 256
    needs = ("negatives",)
    kind: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = Field(0.1, description="of the softmax over similarities (authors' ImageNet code: 0.1; CIFAR-10: 0.5)")
    decoupled: bool = Field(False, description="leave the positive out of the denominator, for small batches (DCL, https://arxiv.org/abs/2110.06848)")
    layers: Literal[2, 3] = Field(2, description="of the projector; 3 in SimCLR v2 (https://arxiv.org/abs/2006.10029)")
    export_layer: Literal[0, 1] = Field(
        0, description="0 exports the encoder alone; 1 with the projector's first layer as its neck, from which SimCLR v2 is fine-tuned"
    )
    hidden: PositiveInt = Field(2048, description="hidden width of the projector")
    output: PositiveInt = Field(128, description="dimension of the projector's output")
    views: TwoViews = Field(Views(preset="simclr"), description="how two views are made of an image")


class SSCD(MethodSpec):
    """SimCLR for copy detection: edited and mixed views, spread evenly by KoLeo; the descriptor is kept."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.10261"
    family = "contrastive"
    year = 2022
    exports = "encoder with its head"
    smallest_batch = 256
    needs = ("negatives",)
    kind: Literal["sscd"] = "sscd"
    temperature: PositiveFloat = Field(0.05, description="of the softmax over similarities")
    entropy: Annotated[float, Field(ge=0)] = Field(
        10.0, description="weight of KoLeo over the nearest descriptor of other content (paper: 30, and 10 to start from)"
    )
    mix: Probability = Field(0.05, description="probability that a view is mixed with another image, by CutMix or MixUp, and counts as a copy of both")
    output: PositiveInt = Field(512, description="dimension of the descriptor; of no effect where encoder.head is given")
    views: TwoViews = Field(Views(preset="sscd"), description="how two views are made of an image")


class MoCoV1(MethodSpec):
    """A query finds its key, made by an EMA encoder of another view, among a queue of the keys of earlier batches."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1911.05722"
    family = "contrastive"
    year = 2019
    exports = "encoder"
    needs = ("negatives", "teacher", "queue")
    kind: Literal["moco_v1"] = "moco_v1"
    temperature: PositiveFloat = Field(0.07, description="of the softmax over similarities")
    queue: PositiveInt = Field(65536, description="keys that are kept as negatives, over all devices")
    momentum: Momentum = Field(0.999, description="of the key encoder (paper: 0.99 costs a point, 0.9 four, 0 fails)")
    output: PositiveInt = Field(128, description="dimension of the linear head's output")
    views: TwoViews = Field(Views(preset="moco_v1"), description="the query's view and the key's")


class MoCoV2(MethodSpec):
    """MoCo with an MLP head, blur in its views and a warmer softmax."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2003.04297"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    needs = ("negatives", "teacher", "queue")
    kind: Literal["moco_v2"] = "moco_v2"
    temperature: PositiveFloat = Field(0.2, description="of the softmax over similarities")
    queue: PositiveInt = Field(65536, description="keys that are kept as negatives, over all devices")
    momentum: Momentum = Field(0.999, description="of the key encoder")
    hidden: PositiveInt = Field(2048, description="hidden width of the head")
    output: PositiveInt = Field(128, description="dimension of the head's output")
    views: TwoViews = Field(Views(preset="moco_v2"), description="the query's view and the key's")


class MoCoV3(MethodSpec):
    """A predictor finds, in both directions, the key of the other view among the keys of the batch; steady for ViTs."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.02057"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    smallest_batch = 512
    needs = ("negatives", "teacher")
    kind: Literal["moco_v3"] = "moco_v3"
    temperature: PositiveFloat = Field(0.2, description="of the softmax over similarities (authors: ViT 0.2, ResNet-50 1.0)")
    momentum: Momentum = Field(0.99, description="of the key encoder at the start; rises to 1 by a cosine")
    projector_layers: PositiveInt | None = Field(None, description="3 for a ViT and 2 for other encoders where not given, as the authors'")
    hidden: PositiveInt = Field(4096, description="width of the hidden layers of projector and predictor")
    output: PositiveInt = Field(256, description="dimension of projector and predictor")
    freeze_patches: bool = Field(True, description="leave a ViT's patch embedding random, which keeps its training steady; no matter to ConvNets")
    views: TwoViews = Field(Views(preset="byol"), description="how two views are made of an image")
