"""LoRA: frozen linear layers, each with a trained product of two small matrices beside it, merged into its weights at the end.

Hu et al., 2021. https://arxiv.org/abs/2106.09685, section 4.1: W x + (alpha / r) B A x, A drawn at random and B zero, so that the network
begins as it was. At the first step the gradient of A is therefore zero, and only B moves.

Differs from the paper: A is drawn with the standard deviation 0.02, whatever the layer's width.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from schemas.errors import UserError
from schemas.finetuning import LoRA
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.packed import is_known

STD = 0.02
"""Of A's entries at the start."""


class Adapted(nn.Module):
    """A linear layer that stays as it is, and the products beside it.

    Args:
        layer: with weights (out, in).
        sections: which of `out` have a product of their own: equal parts of it, in order, such as queries, keys and values of a joint layer.

    Attributes:
        down: A of each adapted section, (rank, in).
        up: B of each, (rows of the section, rank).
    """

    def __init__(self, layer: nn.Linear, sections: list[bool], config: LoRA) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.sections, self.rows = sections, layer.out_features // len(sections)
        self.scale = (config.alpha or config.rank) / config.rank
        self.dropout = config.dropout
        count = sum(sections)
        self.down = nn.ParameterList([nn.Parameter(STD * torch.randn(config.rank, layer.in_features)) for _ in range(count)])
        self.up = nn.ParameterList([nn.Parameter(torch.zeros(self.rows, config.rank)) for _ in range(count)])

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of x (..., in), plus the products of x."""
        y: Tensor = self.layer(x)
        x = dropout(x, self.dropout, self.training)
        products = iter(linear(linear(x, down), up) for down, up in zip(self.down, self.up, strict=True))
        added = [next(products) if adapted else y.new_zeros(*y.shape[:-1], self.rows) for adapted in self.sections]
        return y + self.scale * torch.cat(added, dim=-1)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The layer with the products added to its weights."""
        products = iter(self.scale * (up @ down) for down, up in zip(self.down, self.up, strict=True))
        for number, adapted in enumerate(self.sections):
            if adapted:
                self.layer.weight[number * self.rows : (number + 1) * self.rows] += next(products)
        return self.layer


def adapt(encoder: TimmEncoder, config: LoRA) -> None:
    """Put products beside the layers of each block that the config names, and freeze all else of the encoder.

    Raises:
        UserError: where the encoder has no blocks whose layers are known.
    """
    backbone: Any = encoder.backbone
    if not encoder.is_vit or not all(map(is_known, backbone.blocks)):
        raise UserError(f"strategy lora adapts the blocks of a plain vision transformer, and '{encoder.config.name}' has none: take unfreezing, lp_ft or full")
    encoder.requires_grad_(False)
    for block in backbone.blocks:
        for parent, name, sections in list(_layers(block, config)):
            setattr(parent, name, Adapted(getattr(parent, name), sections, config))


def merge(encoder: TimmEncoder) -> None:
    """Add all products to the weights that they stand beside, and leave the encoder as plain as it was before `adapt`."""
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Adapted):
                setattr(parent, name, child.merged())


def _layers(block: Any, config: LoRA) -> Iterator[tuple[nn.Module, str, list[bool]]]:
    """The layers of a block that are adapted: the module that has it, its name there, and which sections of its output."""
    attention = block.attn
    read = [name in config.modules for name in ("q", "k", "v")]
    if attention.qkv is None:
        yield from ((attention, f"{name}_proj", [True]) for name, adapted in zip("qkv", read, strict=True) if adapted)
    elif any(read):
        yield attention, "qkv", read
    if "proj" in config.modules:
        yield attention, "proj", [True]
    if "mlp" in config.modules:
        yield from ((block.mlp, name, [True]) for name, layer in block.mlp.named_children() if isinstance(layer, nn.Linear))
