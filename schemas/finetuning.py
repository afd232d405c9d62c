"""How a checkpoint becomes a classifier: what of it is trained, and how."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from schemas.spec import Kinded, Spec


class LinearHead(Spec):
    """One linear layer on frozen features: the encoder stays as it is, in eval mode."""

    kind: Literal["linear"] = "linear"


class MLPHead(Spec):
    """Two layers on frozen features."""

    kind: Literal["mlp"] = "mlp"
    hidden: PositiveInt = Field(512, description="width of the hidden layer")


class Full(Spec):
    """Everything is trained; `train.layer_decay` slows lower blocks down."""

    kind: Literal["full"] = "full"


class LoRA(Spec):
    """Frozen weights plus a trained product of two small matrices in each block's attention, merged into the weights at the end."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    kind: Literal["lora"] = "lora"
    rank: PositiveInt = Field(8, description="r, of the two matrices")
    alpha: PositiveFloat | None = Field(None, description="the product is scaled by alpha / r; r where not given")
    modules: Annotated[list[Literal["q", "k", "v", "proj", "mlp"]], Field(min_length=1)] = Field(["q", "v"], description="what of each block is adapted")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of the product's input (0.05 to 0.1 from rank 16)")


class Unfreezing(Spec):
    """The head first, then one group of blocks more at a time, from the top; the best on held-out labels is kept."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1801.06146"
    kind: Literal["unfreezing"] = "unfreezing"
    groups: Annotated[int, Field(ge=1)] = Field(3, description="groups of blocks that are unfrozen one after the other; the rest stays frozen")
    decay: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="factor of the learning rate from each group to the one below")


class LPFT(Spec):
    """Linear probing, then fine-tuning: the head is trained to convergence before anything else moves."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.10054"
    kind: Literal["lp_ft"] = "lp_ft"
    probe: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="share of the training that trains the head alone")
    rate: PositiveFloat = Field(0.1, description="peak learning rate of what follows, over that of the head's training")


Strategy = Annotated[LinearHead | MLPHead | Full | LoRA | Unfreezing | LPFT, *Kinded]
