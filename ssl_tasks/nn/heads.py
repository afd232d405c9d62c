"""Small networks between an encoder and a loss; thrown away after training."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


def mlp(*widths: int, norm: bool = True, last_norm: bool = False, last_affine: bool = True, last_bias: bool = False) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them.

    Args:
        widths: of the input, each hidden layer, and the output.
        norm: whether batch norm follows the hidden layers; without it they have a bias.
        last_norm: whether batch norm follows the last layer too.
        last_affine: whether that last batch norm has a gain and a bias.
        last_bias: whether the last linear layer has a bias; before a batch norm none is needed.
    """
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for i, (before, after) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(before, after, bias=last_bias if i == last else not norm))
        if i < last:
            layers += [nn.BatchNorm1d(after)] * norm + [nn.ReLU(inplace=True)]
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=last_affine))
    return nn.Sequential(*layers)


class PrototypeHead(nn.Module):
    """DINO's head: an MLP to an L2-normalised bottleneck, then its product with each prototype.

    https://github.com/facebookresearch/dino/blob/main/vision_transformer.py (`DINOHead`)

    Args:
        length: of the prototypes, which are the last layer. "fixed" is 1, so that logits are cosines: weight normalisation with a frozen
            gain (DINO, iBOT). "trained" starts at 1: the gain is trained (DINOv2). "free": no weight normalisation (DINOv3).
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, prototypes: int, length: Literal["fixed", "trained", "free"] = "fixed") -> None:
        super().__init__()
        self.normalised = length != "free"
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)
        self.gain = nn.Parameter(torch.ones(prototypes)) if length == "trained" else None
        for layer in (*self.mlp, self.prototypes):
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, prototypes) of features (B, dim)."""
        prototypes = normalize(self.prototypes.weight, dim=-1) if self.normalised else self.prototypes.weight
        logits = linear(normalize(self.mlp(features), dim=-1), prototypes)
        return logits if self.gain is None else logits * self.gain

    def hold_prototypes(self) -> None:
        """Drop the last layer's gradient, so that the next step leaves it as it is."""
        for parameter in (self.prototypes.weight, self.gain):
            if parameter is not None:
                parameter.grad = None
