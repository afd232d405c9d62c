"""How long and with what a model is trained."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from schemas.monitoring import EarlyStop, Rule, Then
from schemas.spec import Kinded, Pair, Spec, Unfit

NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


Share = Annotated[float, Field(gt=0, le=1)]
_PEAK = "peak, before train.scale_rate"
_DECAY = "of all weights but norms and biases"
_MOMENTUM = "share of the last step that is kept"


class AdamW(Spec):
    """Adam with decoupled weight decay; none on norms and biases. https://arxiv.org/abs/1711.05101"""

    kind: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = Field(1e-3, description=_PEAK)
    weight_decay: NotNegative = Field(0.05, description=_DECAY)
    betas: Pair = Field((0.9, 0.999), description="decay of the two running moments")


class SGD(Spec):
    """Stochastic gradient descent with momentum; no weight decay on norms and biases."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = Field(0.06, description=_PEAK)
    weight_decay: NotNegative = Field(5e-4, description=_DECAY)
    momentum: Fraction = Field(0.9, description=_MOMENTUM)
    nesterov: bool = Field(False, description="look one step of the momentum ahead")

    @model_validator(mode="after")
    def _looks_ahead(self) -> Self:
        if self.nesterov and not self.momentum:
            raise Unfit("nesterov needs a momentum above 0", "nesterov", "momentum")
        return self


class LARS(Spec):
    """SGD whose every layer steps by a share of its own weights' length, for batches of thousands. https://arxiv.org/abs/1708.03888"""

    kind: Literal["lars"] = "lars"
    learning_rate: PositiveFloat = Field(0.3, description=_PEAK)
    weight_decay: NotNegative = Field(1e-6, description=_DECAY)
    momentum: Fraction = Field(0.9, description=_MOMENTUM)
    trust: PositiveFloat = Field(1e-3, description="a layer's step at learning rate 1, over the length of its weights; norms and biases step as in SGD")
    bias_rate: PositiveFloat = Field(1.0, description="factor of the learning rate of norms and biases (Barlow Twins: 0.024)")


Optimizer = Annotated[AdamW | SGD | LARS, *Kinded]


FITTING = {"accumulate", "activation_checkpointing", "compile", "sharding"}
"""Fields of `Train` that change what a training costs, and of its result no more than the rounding."""


class Train(Spec):
    """The budget and the optimizer of one training."""

    epochs: PositiveFloat = Field(100.0, description="passes over the kept train images; may be a fraction")
    batch_size: PositiveInt = Field(256, description="images a step over all devices")
    optimizer: Optimizer = Field(AdamW(), description="what turns gradients into steps")
    scale_rate: Literal["none", "linear", "sqrt"] = Field("none", description="factor of the learning rate: batch over reference_batch, or its square root")
    reference_batch: PositiveInt = Field(256, description="batch for which the optimizer's learning_rate is meant (SimCLR, MAE: 256; DINOv2: 1024 with sqrt)")
    layer_decay: Share = Field(1.0, description="factor of the learning rate from each block of the encoder to the one below; heads have the full rate")
    patch_embed_rate: Share = Field(1.0, description="further factor for a ViT's patch embedding (DINOv2: 0.2)")
    weight_decay_end: NotNegative | None = Field(None, description="weight decay at the end, reached along a cosine (DINO: 0.4); constant where not given")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="of the learning rate, after the warm-up")
    warmup: Fraction = Field(0.05, description="share of the steps with a linearly rising learning rate")
    final_rate: Fraction = Field(0.0, description="last learning rate over the peak (cosine)")
    clip: NotNegative = Field(0.0, description="largest gradient norm; 0 does not clip")
    checkpoint_steps: PositiveInt = Field(100, description="steps between resumable checkpoints")
    monitors: PositiveInt = Field(
        10, description="how many times the monitors look at the model, evenly spread; they also look four times within the first tenth"
    )
    on_collapse: Then = Field("stop", description="stop fails with the reason; warn notes it and goes on; fall_back ends with the last good checkpoint")
    rules: list[Rule] = Field([], description="bounds on what the monitors see, such as milestones")
    early_stop: EarlyStop | None = Field(None, description="end before the budget is spent, where the training no longer improves; never where not given")
    bfloat16: bool = Field(True, description="autocast on CUDA; a CPU always trains in float32")
    accumulate: PositiveInt = Field(1, description="pieces in which a batch passes the encoder, in the memory of one of them; the loss sees the whole batch")
    activation_checkpointing: bool = Field(False, description="compute what is inside the encoder's blocks again for the gradient instead of keeping it")
    compile: bool = Field(False, description="torch.compile the encoder: a minute or more at the start for faster steps; it pays on CUDA")
    sharding: Literal["ddp", "fsdp"] = Field("ddp", description="with several devices: a copy of the model on each, or a part of it (where it does not fit)")

    def peak_rate(self, batch: int) -> float:
        """The highest learning rate of a training whose steps see `batch` images over all devices."""
        ratio = batch / self.reference_batch
        return self.optimizer.learning_rate * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.scale_rate]

    def steps(self, images: int) -> int:
        """Steps that a training on so many images takes, at least one; an epoch's last incomplete batch is left out."""
        return max(1, round(self.epochs * max(1, images // self.batch_size)))
