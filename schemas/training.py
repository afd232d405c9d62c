"""How long and with what a model is trained."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from schemas.spec import Kinded, Pair, Spec

NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Spec):
    """Adam with decoupled weight decay; none on norms and biases. https://arxiv.org/abs/1711.05101"""

    kind: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = Field(1e-3, description="peak, as it is used: no scaling by the batch")
    weight_decay: NotNegative = Field(0.05, description="of all weights but norms and biases")
    betas: Pair = Field((0.9, 0.999), description="decay of the two running moments")


class SGD(Spec):
    """Stochastic gradient descent with Nesterov-free momentum; no weight decay on norms and biases."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = Field(0.06, description="peak, as it is used: no scaling by the batch")
    weight_decay: NotNegative = Field(5e-4, description="of all weights but norms and biases")
    momentum: Fraction = Field(0.9, description="share of the last step that is kept")


Optimizer = Annotated[AdamW | SGD, *Kinded]


class Train(Spec):
    """The budget and the optimizer of one training."""

    epochs: PositiveFloat = Field(100.0, description="passes over the kept train images; may be a fraction")
    batch_size: PositiveInt = Field(256, description="images a step over all devices")
    optimizer: Optimizer = Field(AdamW(), description="what turns gradients into steps")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="of the learning rate, after the warm-up")
    warmup: Fraction = Field(0.05, description="share of the steps with a linearly rising learning rate")
    final_rate: Fraction = Field(0.0, description="last learning rate over the peak (cosine)")
    clip: NotNegative = Field(0.0, description="largest gradient norm; 0 does not clip")
    checkpoint_steps: PositiveInt = Field(100, description="steps between resumable checkpoints")
    monitors: PositiveInt = Field(10, description="how many times the label-free monitors look at the model")
    bfloat16: bool = Field(True, description="autocast on CUDA; a CPU always trains in float32")

    def steps(self, images: int) -> int:
        """Steps that a training on so many images takes, at least one; an epoch's last incomplete batch is left out."""
        return max(1, round(self.epochs * max(1, images // self.batch_size)))
