"""Methods that predict what a teacher says of what is masked."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from schemas.methods.masked import exactly_one
from schemas.methods.self_distillation import Share, Weight
from schemas.methods.spec import MethodSpec
from schemas.spec import Pair, Unfit
from schemas.views import Views

Ratio = Annotated[float, Field(gt=0, lt=1)]
OneCrop = Annotated[Views, AfterValidator(exactly_one)]


class Data2Vec(MethodSpec):
    """At masked patches the student tells the averaged upper layers of an EMA teacher that sees everything."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.03555"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["data2vec"] = "data2vec"
    mask_ratio: Ratio = Field(0.6, description="share of the patches that the student sees masked, in blocks (the code: 120 of 196)")
    target_blocks: PositiveInt = Field(6, description="K, how many of the teacher's last blocks are averaged (of 12 and of 24); no more than there are")
    beta: PositiveFloat = Field(2.0, description="distance from which on the loss is no longer squared")
    momentum: Share = Field(0.9998, description="of the teacher at the start. It averages over 1 / (1 - momentum) steps: a short training needs a lower one")
    momentum_end: Share = Field(0.9998, description="of the teacher after its warm-up (images: as at the start; the second half of ViT-L's training: 0.9999)")
    momentum_warmup: Share = Field(1.0, description="share of the training over which it moves from start to end, on a straight line")
    views: OneCrop = Field(
        Views(count=1, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.0, grey=0.0, blur=0.0), description="one crop, flipped and jittered"
    )


class Data2Vec2(MethodSpec):
    """data2vec whose encoder sees only what is not masked, for several masks of an image at the cost of one teacher."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2212.07525"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["data2vec2"] = "data2vec2"
    mask_ratio: Ratio = Field(0.8, description="share of the patches that the encoder does not see: all but small blocks")
    masks: PositiveInt = Field(16, description="M, masks of an image that are learned from at once; ViT-L: 16, ViT-H: 8")
    target_blocks: PositiveInt = Field(10, description="K, how many of the teacher's last blocks are averaged (of 12); no more than there are")
    decoder_width: PositiveInt = Field(768, description="width of the decoder, which is thrown away; a multiple of decoder_groups")
    decoder_depth: PositiveInt = Field(6, description="convolutions of the decoder")
    decoder_kernel: PositiveInt = Field(3, description="side of a convolution, odd")
    decoder_groups: PositiveInt = Field(16, description="groups of a convolution; divides the encoder's width too")
    cls_weight: Weight = Field(
        0.01, description="weight of the CLS token's loss (the code's 0.01 is of a sum over the 256 masked images of a device: 2.56 as a mean); 0 for none"
    )
    momentum: Share = Field(0.9998, description="of the teacher at the start. It averages over 1 / (1 - momentum) steps: a short training needs a lower one")
    momentum_end: Share = Field(0.99999, description="of the teacher after its warm-up")
    momentum_warmup: Share = Field(
        0.27, description="share of the training over which it moves from start to end, on a straight line (100,000 of 375,300 steps)"
    )
    views: OneCrop = Field(Views(preset="mae", count=1), description="one crop and flip of an image, without change of colours")

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        if self.decoder_width % self.decoder_groups:
            raise Unfit(f"decoder_width {self.decoder_width} is not a multiple of decoder_groups {self.decoder_groups}", "decoder_width", "decoder_groups")
        if self.decoder_kernel % 2 == 0:
            raise Unfit(f"decoder_kernel {self.decoder_kernel} is even, and no patch is in the middle of it: make it odd", "decoder_kernel")
        return self


class IJEPA(MethodSpec):
    """From the patches of one block, what an EMA teacher says of other blocks is predicted, in features and not in pixels."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2301.08243"
    family = "masked"
    year = 2023
    exports = "teacher encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["i_jepa"] = "i_jepa"
    targets: PositiveInt = Field(4, description="blocks of an image that are predicted")
    target_scale: Pair = Field((0.15, 0.2), description="share of the image that each covers")
    target_aspect: Pair = Field((0.75, 1.5), description="height over width of each")
    context_scale: Pair = Field((0.85, 1.0), description="share of the image that the context block covers, before the targets are taken out of it")
    predictor_width: PositiveInt = Field(384, description="width of the predictor, which is thrown away; a multiple of 4")
    predictor_depth: PositiveInt = Field(6, description="blocks of the predictor (ViT-B: 6, L and H: 12, g: 16)")
    predictor_heads: PositiveInt = Field(12, description="attention heads of the predictor: the encoder's (ViT-B: 12, H: 16)")
    momentum: Share = Field(0.996, description="of the teacher at the start. It averages over 1 / (1 - momentum) steps: a short training needs a lower one")
    momentum_end: Share = Field(1.0, description="of the teacher at the end, to which it moves on a straight line")
    views: OneCrop = Field(
        Views(count=1, scale=(0.3, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0), description="one crop of an image, without any other change"
    )

    @model_validator(mode="after")
    def _predicts(self) -> Self:
        for name in ("target_scale", "target_aspect", "context_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name != "target_aspect" and high > 1):
                raise Unfit(f"{name} [{low}, {high}] must rise from above 0" + ("" if name == "target_aspect" else " to at most 1"), name)
        if self.predictor_width % self.predictor_heads:
            raise Unfit(f"predictor_width {self.predictor_width} is not a multiple of predictor_heads {self.predictor_heads}", "predictor_width")
        if self.predictor_width % 4:
            raise Unfit(f"predictor_width {self.predictor_width} is not a multiple of 4, as its sine and cosine positions need", "predictor_width")
        return self


class DBOT(MethodSpec):
    """Masked features of a frozen teacher are told; then the student becomes the teacher, and a new student begins."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2209.03917"
    family = "masked"
    year = 2022
    exports = "encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    kind: Literal["dbot"] = "dbot"
    stages: PositiveInt = Field(
        3, description="parts of the training, of equal length, each with a teacher and a student of its own; 1 keeps the random teacher"
    )
    mask_ratio: Ratio = Field(0.75, description="share of the patches that the encoder does not see")
    beta: PositiveFloat = Field(2.0, description="distance from which on the loss is no longer squared (in the code)")
    decoder_width: PositiveInt = Field(512, description="width of the decoder, which is thrown away; a multiple of 4")
    decoder_depth: PositiveInt = Field(8, description="blocks of the decoder")
    decoder_heads: PositiveInt = Field(16, description="attention heads of the decoder")
    views: OneCrop = Field(Views(preset="mae", count=1), description="one crop and flip of an image, without change of colours")

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            raise Unfit(f"decoder_width {self.decoder_width} is not a multiple of decoder_heads {self.decoder_heads}", "decoder_width", "decoder_heads")
        if self.decoder_width % 4:
            raise Unfit(f"decoder_width {self.decoder_width} is not a multiple of 4, as its sine and cosine positions need", "decoder_width")
        return self


def target_and_anchors(views: Views) -> Views:
    """The views, for a method that compares crops of which patches are dropped with a whole one."""
    if views.count < 2:
        raise Unfit("this method compares crops of which patches are dropped with a whole one: count must be 2 or more", "count")
    return views


class MaskedSiamese(MethodSpec):
    """What MSN and PMSN share: assignments to prototypes of masked anchors and of a whole target."""

    family = "self-distillation"
    year = 2022
    exports = "teacher encoder"
    architectures = ("vit",)
    needs = ("teacher",)
    mask_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.15, description="share of the patches that global anchors drop (ViT-S; larger ones more: L/7 0.7)"
    )
    prototypes: PositiveInt = Field(1024, description="K")
    hidden: PositiveInt = Field(2048, description="width of the head's two hidden layers")
    output: PositiveInt = Field(256, description="length of an embedding and of a prototype")
    temperature: PositiveFloat = Field(0.1, description="of the softmax over prototypes")
    sharpening: Annotated[float, Field(gt=0, lt=1)] = Field(0.25, description="by which the target's temperature is multiplied")
    sinkhorn_iterations: NonNegativeInt = Field(3, description="by which the targets are balanced over prototypes; 0 leaves them as they are")
    usage_weight: Weight = Field(1.0, description="weight of the term that keeps prototypes in use")
    momentum: Share = Field(0.996, description="of the teacher at the start. It averages over 1 / (1 - momentum) steps: a short training needs a lower one")
    momentum_end: Share = Field(1.0, description="of the teacher at the end, to which it moves on a straight line (the code ends at 0.9992)")
    views: Annotated[Views, AfterValidator(target_and_anchors)] = Field(
        Views(preset="moco_v2", count=2, scale=(0.3, 1.0), local_count=10, local_scale=(0.05, 0.3)),
        description="crops: the first global one is the target; anchors are the others, of which patches are dropped, and the local ones",
    )


class MSN(MaskedSiamese):
    """A view of which patches are dropped is assigned to the same prototypes as an unmasked view, all of which are used alike."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2204.07141"
    kind: Literal["msn"] = "msn"


class PMSN(MaskedSiamese):
    """MSN whose prototypes are used as a chosen prior says, such as a power law for images of unlike frequency."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2210.07277"
    kind: Literal["pmsn"] = "pmsn"
    power_law: Weight = Field(0.25, description="exponent of the prior: the k-th prototype is used in proportion to k ** -power_law; 0 is MSN")
