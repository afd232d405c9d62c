"""How a checkpoint becomes a classifier: what of it is trained, and how."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from schemas.spec import Kinded, Spec
from schemas.views import Views

VIEWS = Views(count=1, scale=(0.35, 1.0), jitter=0.0, grey=0.0, blur=0.0)
"""Of the images that a classifier is trained on: one an image, a crop of most of it."""


class StrategySpec(Spec):
    """What every strategy has."""

    frozen: ClassVar[bool] = False
    """Whether the encoder stays as it is."""
    staged: ClassVar[bool] = False
    """Whether parameters begin to be trained one part after the other."""


class LinearHead(StrategySpec):
    """One linear layer on frozen features: the encoder stays as it is, in eval mode."""

    frozen = True
    kind: Literal["linear"] = "linear"


class MLPHead(StrategySpec):
    """Two layers on frozen features."""

    frozen = True
    kind: Literal["mlp"] = "mlp"
    hidden: PositiveInt = Field(512, description="width of the hidden layer")


class Full(StrategySpec):
    """Everything is trained; `train.layer_decay` slows lower blocks down."""

    kind: Literal["full"] = "full"


class LoRA(StrategySpec):
    """Frozen weights plus a trained product of two small matrices in each block's attention, merged into the weights at the end."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    kind: Literal["lora"] = "lora"
    rank: PositiveInt = Field(8, description="r, of the two matrices")
    alpha: PositiveFloat | None = Field(None, description="the product is scaled by alpha / r; r where not given")
    modules: Annotated[list[Literal["q", "k", "v", "proj", "mlp"]], Field(min_length=1)] = Field(["q", "v"], description="what of each block is adapted")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of the product's input (0.05 to 0.1 from rank 16)")
    rate: PositiveFloat = Field(2.5, description="learning rate of the products over that of the head")


class Unfreezing(StrategySpec):
    """The head first, then one block more at a time, from the top; a tenth of the labels is held out, and the weights that are best on it are kept."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1801.06146"
    staged = True
    kind: Literal["unfreezing"] = "unfreezing"
    groups: Annotated[int, Field(ge=1)] = Field(3, description="blocks of a ViT, or stages of a ConvNet, that are unfrozen; the rest stays frozen")
    decay: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="factor of the learning rate from the head to the last block, and so on down")


class LPFT(StrategySpec):
    """Linear probing, then fine-tuning: the head is trained to convergence before anything else moves."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.10054"
    staged = True
    kind: Literal["lp_ft"] = "lp_ft"
    probe: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="share of the training that trains the head alone")
    rate: PositiveFloat = Field(0.1, description="peak learning rate of what follows, over that of the head's training")


Strategy = Annotated[LinearHead | MLPHead | Full | LoRA | Unfreezing | LPFT, *Kinded]
