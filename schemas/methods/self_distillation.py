"""Methods whose teacher is a moving average of the student and speaks in prototypes: DINO and its heirs."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, Strict, model_validator

from schemas.methods.spec import MethodSpec
from schemas.spec import Pair, Unfit
from schemas.views import Views, two_or_more

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
CROPS = "crops: global ones for the teacher, all for the student"


class SelfDistillation(MethodSpec):
    """What DINO and its heirs share: an EMA teacher whose output is kept from collapsing and sharpened."""

    family = "self-distillation"
    exports = "teacher encoder"
    needs = ("teacher",)
    student_temperature: PositiveFloat = Field(0.1, description="of the student's softmax")
    teacher_temperature: PositiveFloat = Field(0.04, description="after the warm-up")
    teacher_temperature_start: PositiveFloat = Field(0.04, description="at the start; equal to teacher_temperature keeps it constant")
    teacher_temperature_warmup: Share = Field(0.3, description="share of the training over which it moves from start to end (30 of 100 epochs)")
    centering: Literal["center", "sinkhorn"] = Field("center", description="center takes a running mean off the teacher's output, sinkhorn balances it")
    center_momentum: Share = Field(0.9, description="of that running mean")
    momentum: Share = Field(
        0.996,
        description="of the teacher at the start; moves to its end by a cosine. It averages over 1 / (1 - momentum) steps: a short training needs a lower one",
    )
    momentum_end: Share = Field(1.0, description="of the teacher at the end; equal to momentum keeps it constant")
    freeze_last_layer: Share = Field(0.01, description="share of the training with a frozen last layer (1 of 100 epochs)")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(Views(preset="dino"), description=CROPS)

    @model_validator(mode="after")
    def _sharpens(self) -> Self:
        named = {name: getattr(self, name) for name in type(self).model_fields if name.endswith(("teacher_temperature", "temperature_start"))}
        for name, temperature in named.items():
            if temperature >= self.student_temperature:
                raise Unfit(
                    f"teacher temperature {temperature} must be below student_temperature {self.student_temperature}: "
                    "sharper targets are what keeps DINO from collapsing to uniform",
                    name,
                    "student_temperature",
                )
        return self


class PatchSelfDistillation(SelfDistillation):
    """What iBOT and its heirs add: the student sees some patches of the global crops masked, and predicts what the teacher says of them."""

    architectures = ("vit",)
    patch_teacher_temperature: PositiveFloat = Field(0.07, description="of the teacher's patches after the warm-up; starts as that of its crops")
    masking: Literal["block", "random", "inverse_block"] = Field("block", description="shape of what is masked; inverse_block leaves one block to see")
    mask_probability: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="share of the global crops that are masked")
    mask_ratio: Pair = Field((0.1, 0.5), description="share of the patches masked in those, evenly spread over them")

    @model_validator(mode="after")
    def _masks_some(self) -> Self:
        low, high = self.mask_ratio
        if not 0 < low <= high < 1:
            raise Unfit(f"mask_ratio [{low}, {high}] must rise from above 0 to below 1", "mask_ratio")
        return self


class DINO(SelfDistillation):
    """The student predicts, from any crop, the centred and sharpened output of an EMA teacher on the global crops."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.14294"
    year = 2021
    kind: Literal["dino"] = "dino"
    prototypes: PositiveInt = Field(65536, description="K, the dimension of the head's output")
    hidden: PositiveInt = Field(2048, description="width of the head's hidden layers")
    bottleneck: PositiveInt = Field(256, description="width of the L2-normalised bottleneck")


class IBOT(PatchSelfDistillation):
    """DINO on crops, and the same on patches: the student predicts the teacher's output on patches that it sees masked."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.07832"
    year = 2022
    kind: Literal["ibot"] = "ibot"
    prototypes: PositiveInt = Field(8192, description="K, the dimension of the head's output")
    hidden: PositiveInt = Field(2048, description="width of the head's hidden layers")
    bottleneck: PositiveInt = Field(256, description="width of the L2-normalised bottleneck")
    shared_head: bool = Field(True, description="whether crops and patches go through the same head (paper, table 9)")
    patch_weight: Weight = Field(1.0, description="weight of the patch loss")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(
        Views(preset="dino", scale=(0.25, 1.0), local_count=10, local_scale=(0.05, 0.25)), description=CROPS
    )


class DINOv2(PatchSelfDistillation):
    """iBOT with a head each for crops and patches, balanced targets, and KoLeo, which spreads features over the sphere."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    year = 2023
    kind: Literal["dinov2"] = "dinov2"
    teacher_temperature: PositiveFloat = Field(0.07, description="after the warm-up")
    centering: Literal["center", "sinkhorn"] = Field("sinkhorn", description="center takes a running mean off the teacher's output, sinkhorn balances it")
    momentum: Share = Field(0.992, description="of the teacher at the start; moves to its end by a cosine (ViT-L and g on LVD-142M: 0.994)")
    prototypes: PositiveInt = Field(65536, description="of the crops' head (ViT-L and g on LVD-142M: 131072)")
    hidden: PositiveInt = Field(2048, description="width of the crops' head's hidden layers")
    bottleneck: PositiveInt = Field(256, description="width of the crops' head's L2-normalised bottleneck (ViT-L and g: 384)")
    patch_prototypes: PositiveInt = Field(65536, description="of the patches' head (ViT-L and g on LVD-142M: 131072)")
    patch_hidden: PositiveInt = Field(2048, description="width of the patches' head's hidden layers")
    patch_bottleneck: PositiveInt = Field(256, description="width of the patches' head's L2-normalised bottleneck")
    patch_weight: Weight = Field(1.0, description="weight of the patch loss")
    koleo: Weight = Field(0.1, description="weight of KoLeo, of each global crop")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(Views(preset="dinov2"), description=CROPS)


class DINOv3(PatchSelfDistillation):
    """DINOv2 with Gram anchoring: late in training, patches keep the similarities to each other that an earlier teacher gave them."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2508.10104"
    year = 2025
    kind: Literal["dinov3"] = "dinov3"
    teacher_temperature: PositiveFloat = Field(0.07, description="after the warm-up")
    momentum: Share = Field(0.992, description="of the teacher at the start; moves to its end by a cosine (7B: 0.994 and 0.999, constant)")
    centering: Literal["center", "sinkhorn"] = Field("sinkhorn", description="center takes a running mean off the teacher's output, sinkhorn balances it")
    prototypes: PositiveInt = Field(65536, description="of the crops' head (7B: 262144)")
    hidden: PositiveInt = Field(2048, description="width of the crops' head's hidden layers (7B: 8192)")
    bottleneck: PositiveInt = Field(256, description="width of the crops' head's L2-normalised bottleneck (7B: 512)")
    patch_prototypes: PositiveInt = Field(65536, description="of the patches' head (7B: 98304)")
    patch_hidden: PositiveInt = Field(2048, description="width of the patches' head's hidden layers (7B: 4096)")
    patch_bottleneck: PositiveInt = Field(256, description="width of the patches' head's L2-normalised bottleneck (7B: 384)")
    patch_weight: Weight = Field(1.0, description="weight of the patch loss")
    local_weight: Weight = Field(1.0, description="factor of the crop loss's pairs with a local crop (7B once Gram anchoring is on: 0.5)")
    koleo: Weight = Field(0.1, description="weight of KoLeo, of each global crop")
    gram: Weight = Field(2.0, description="weight of Gram anchoring (7B at high resolution: 1.5); 0 only takes snapshots, for a stage that continues this")
    gram_start: Share = Field(0.83, description="share of the training that lies behind when Gram anchoring begins (7B: 1.0 of 1.2 million steps)")
    gram_snapshots: Annotated[tuple[Share, ...], Strict(False)] = Field(
        (0.17, 0.842, 0.85, 0.858),
        description="at these shares of the training the Gram teacher becomes a copy of the teacher; none keeps a continued stage's",
    )
    gram_size: PositiveInt | None = Field(None, description="side of the Gram teacher's crops; the student's where not given (7B: twice that)")
    views: Annotated[Views, AfterValidator(two_or_more)] = Field(Views(preset="dinov3"), description=CROPS)

    @model_validator(mode="after")
    def _gram_fits(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.gram_snapshots)):
            raise Unfit(f"gram_snapshots {list(self.gram_snapshots)} must rise", "gram_snapshots")
        if self.gram_snapshots and self.gram_snapshots[0] > self.gram_start:
            raise Unfit(f"the first of gram_snapshots, {self.gram_snapshots[0]}, is after gram_start {self.gram_start}", "gram_snapshots", "gram_start")
        if self.gram_size and (self.views.rotation or self.views.shear):
            raise Unfit("gram_size needs views without rotation and shear: the Gram teacher sees the same boxes, undistorted", "gram_size", "views")
        return self
