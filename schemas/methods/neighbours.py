"""Contrastive methods that differ in what stands against a view, or beside it: banks, queues, neighbours, learned negatives."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from schemas.methods.spec import MethodSpec
from schemas.spec import Unfit
from schemas.views import Views, exactly_two

Momentum = Annotated[float, Field(ge=0, le=1)]
TwoViews = Annotated[Views, AfterValidator(exactly_two)]


def one_crop(views: Views) -> Views:
    """The views, for a method that looks at one crop of an image at a time."""
    if (views.count, views.local_count) != (1, 0):
        wrong = "count" if views.count != 1 else "local_count"
        raise Unfit("this method takes one crop here: count must be 1 and local_count 0", wrong)
    return views


def of_one_size(views: Views) -> Views:
    """The views, all of them of one size."""
    if views.local_count:
        raise Unfit("this method takes crops of one size here: local_count must be 0, and count says how many", "local_count")
    return views


OneCrop = Annotated[Views, AfterValidator(one_crop)]
CROP = Views(count=1, scale=(0.2, 1.0), jitter=0.0, grey=0.0, blur=0.0)
STRONG = Views(
    preset="moco_v2",
    count=1,
    scale=(0.086, 0.429),
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    turn=0.4,
    rotation=30.0,
    shear=0.3,
    solarize=0.2,
)


class InstanceDiscrimination(MethodSpec):
    """Every image is a class of its own, whose weight is what a memory bank holds of it."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1805.01978"
    family = "contrastive"
    year = 2018
    exports = "encoder"
    needs = ("negatives", "memory bank")
    takes = ("images",)
    kind: Literal["instance_discrimination"] = "instance_discrimination"
    temperature: PositiveFloat = Field(0.07, description="of the softmax over similarities")
    negatives: NonNegativeInt = Field(
        4096,
        description="images that are drawn to stand against each (NCE); 0 takes the softmax over all images, which is exact, and better for small sets",
    )
    proximal: NonNegativeFloat = Field(
        30.0, description="weight, beside NCE, of the squared distance to what the bank holds of the image; the authors' code has none"
    )
    bank_momentum: Momentum = Field(0.5, description="of a row of the bank, each time that its image is seen")
    output: PositiveInt = Field(128, description="dimension of the linear head's output, and of the bank")
    views: OneCrop = Field(Views(preset="moco_v1", count=1), description="how one view is made of an image")


class NNCLR(MethodSpec):
    """The positive of a view is the nearest neighbour of the other view in a queue of earlier images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.14548"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    smallest_batch = 256
    needs = ("negatives", "queue")
    kind: Literal["nnclr"] = "nnclr"
    temperature: PositiveFloat = Field(0.1, description="of the softmax over similarities")
    queue: PositiveInt = Field(98304, description="embeddings among which neighbours are sought, over all devices")
    hidden: PositiveInt = Field(2048, description="width of the projector's two hidden layers")
    output: PositiveInt = Field(256, description="dimension of the projection and of its prediction")
    predictor_hidden: PositiveInt = Field(4096, description="hidden width of the predictor")
    views: TwoViews = Field(Views(preset="simclr"), description="how two views are made of an image")


class MSF(MethodSpec):
    """The prediction of one view is pulled to the nearest neighbours of what an EMA teacher says of the other."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2105.07269"
    family = "self-distillation"
    year = 2021
    exports = "encoder"
    needs = ("teacher", "queue")
    kind: Literal["msf"] = "msf"
    neighbours: PositiveInt = Field(5, description="how many a prediction is pulled to, the target itself among them (authors' released models: 10)")
    queue: PositiveInt = Field(128000, description="targets among which neighbours are sought, over all devices (largest in the paper: 1,024,000)")
    momentum: Momentum = Field(0.99, description="of the target, the same all the time")
    hidden: PositiveInt = Field(4096, description="hidden width of the projector and of the predictor")
    output: PositiveInt = Field(512, description="dimension of the projection and of its prediction")
    views: OneCrop = Field(Views(preset="moco_v2", count=1), description="the view that predicts")
    target: OneCrop = Field(CROP, description="the target's view: a crop and flip, without change of colours (weak/strong)")

    @model_validator(mode="after")
    def _has_neighbours(self) -> Self:
        if self.neighbours > self.queue:
            raise Unfit(f"neighbours {self.neighbours} are more than the queue of {self.queue} holds", "neighbours", "queue")
        return self


class AdCo(MethodSpec):
    """The negatives are learned against the encoder: they move to where they are hardest to tell from the positives."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2011.08435"
    family = "contrastive"
    year = 2020
    exports = "encoder"
    needs = ("negatives", "teacher")
    kind: Literal["adco"] = "adco"
    temperature: PositiveFloat = Field(0.12, description="of the encoder's softmax over similarities")
    negatives: PositiveInt = Field(65536, description="how many are learned (authors, with 8,192: temperatures 0.14 and 0.03)")
    negatives_temperature: PositiveFloat = Field(0.02, description="of the softmax that the negatives climb")
    negatives_rate: PositiveFloat = Field(
        3.0, description="learning rate of the negatives' own SGD, the same all the time; each is pulled by its share of the softmax: with 1,000 take 0.05"
    )
    negatives_momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of that SGD")
    momentum: Momentum = Field(0.999, description="of the key encoder")
    hidden: PositiveInt = Field(2048, description="hidden width of the head")
    output: PositiveInt = Field(128, description="dimension of the head's output, and of the negatives")
    views: TwoViews = Field(Views(preset="moco_v2"), description="the query's view and the key's")


class CLSA(MethodSpec):
    """A strongly changed view must be as similar to the images of a queue as a weakly changed one is."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.07713"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    needs = ("negatives", "teacher", "queue")
    kind: Literal["clsa"] = "clsa"
    temperature: PositiveFloat = Field(0.2, description="of the contrastive softmax")
    divergence_temperature: PositiveFloat = Field(0.2, description="of the two distributions that are to agree")
    divergence: PositiveFloat = Field(1.0, description="weight of their divergence")
    queue: PositiveInt = Field(65536, description="keys that are kept as negatives, over all devices")
    momentum: Momentum = Field(0.999, description="of the key encoder")
    hidden: PositiveInt = Field(2048, description="hidden width of the head")
    output: PositiveInt = Field(128, description="dimension of the head's output")
    views: TwoViews = Field(Views(preset="moco_v2"), description="the weak views: the query's and the key's")
    strong: Annotated[Views, AfterValidator(of_one_size)] = Field(
        STRONG, description="the strong views: `count` crops, small as local ones, of side `local_size` (96 px for 224 where not given)"
    )


class DirectCLR(MethodSpec):
    """The contrastive loss is on the first dimensions of the feature itself, without a projector."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2110.09348"
    family = "contrastive"
    year = 2021
    exports = "encoder"
    smallest_batch = 256
    needs = ("negatives",)
    kind: Literal["directclr"] = "directclr"
    temperature: PositiveFloat = Field(0.1, description="of the softmax over similarities")
    dim: PositiveInt = Field(360, description="how many dimensions of the feature the loss sees, the first ones (paper: 360 of a ResNet-50's 2,048)")
    views: TwoViews = Field(Views(preset="byol"), description="how two views are made of an image")
