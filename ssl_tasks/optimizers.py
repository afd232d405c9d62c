"""Optimizers, from their specs in `schemas/training.py`, and which parameters they treat apart."""

from collections.abc import Callable, Iterable
from typing import Any, assert_never

import torch
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.training import LARS as LARSConfig
from schemas.training import SGD, AdamW, Train
from ssl_tasks.method import Method
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.sharding import whole

_HEAD = "a head"
"""Name of a parameter that no network has: timm numbers it as the layer behind the last block."""


def build(config: Train, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a module's trainable parameters.

    Vectors and scalars (biases, the gains of norms, tokens of one dimension) are not decayed: pulling them towards zero
    regularises nothing. AdamW is fused: on a CPU too its step takes a third of the time. PyTorch's fused SGD cannot take a parameter that
    at first has no gradient, such as a last layer that is held still.

    Raises:
        UserError: where `layer_decay` is asked of a network whose layers timm does not number.
    """
    groups = _groups(config, module)
    chosen = config.optimizer
    match chosen:
        case AdamW():
            fused = not any(parameter.is_meta for group in groups for parameter in group["params"])
            return torch.optim.AdamW(groups, lr=chosen.learning_rate, betas=chosen.betas, fused=fused)
        case SGD():
            return torch.optim.SGD(groups, lr=chosen.learning_rate, momentum=chosen.momentum, nesterov=chosen.nesterov)
        case LARSConfig():
            return LARS(groups, chosen)
        case _:
            assert_never(chosen)


def set_rates(optimizer: torch.optim.Optimizer, learning_rate: float, weight_decay: float) -> None:
    """Give every group of parameters its share of the learning rate of this step, and its weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["share"]
        group["weight_decay"] = weight_decay if group["matrices"] else 0.0


def _groups(config: Train, module: nn.Module) -> list[dict[str, Any]]:
    """Parameters that share learning rate and weight decay, in the order of the module's own.

    `share`: of the learning rate. `matrices`: whether they have two dimensions or more, and so are decayed and adapted.
    """
    shares, own = rate_shares(config, module), module.rates() if isinstance(module, Method) else {}
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim > 1
        share = shares.get(name, 1.0) * own.get(name, 1.0) * (1.0 if matrix else getattr(config.optimizer, "bias_rate", 1.0))
        decay = config.optimizer.weight_decay if matrix else 0.0
        group = groups.setdefault((share, matrix), {"params": [], "share": share, "matrices": matrix, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def rate_shares(config: Train, module: nn.Module) -> dict[str, float]:
    """Share of the learning rate of each parameter of the encoders in a module, by name; all others have the full rate.

    The last block has `layer_decay`, the one below its square, the patch embedding and the tokens that come before the first block
    one factor more: BEiT (https://arxiv.org/abs/2106.08254), as timm numbers the layers of ViTs and ConvNets.
    """
    if config.layer_decay == config.patch_embed_rate == 1:
        return {}
    shares = {}
    for path, encoder in module.named_modules():
        if isinstance(encoder, TimmEncoder):
            below_heads = _below_heads(encoder) if config.layer_decay < 1 else {}
            for name, _ in encoder.backbone.named_parameters():
                patches = config.patch_embed_rate if "patch_embed" in name.split(".") else 1.0
                shares[".".join(filter(None, (path, "backbone", name)))] = config.layer_decay ** below_heads.get(name, 0) * patches
    return shares


def _below_heads(encoder: TimmEncoder) -> dict[str, int]:
    """How many layers below the heads each parameter of the backbone is."""
    backbone: Any = encoder.backbone
    if not hasattr(backbone, "group_matcher"):
        raise UserError(f"train.layer_decay needs a network whose layers timm numbers, and '{encoder.config.name}' is none: leave it out")
    names = [name for name, _ in backbone.named_parameters()]
    layers: dict[str, int] = group_with_matcher(((name, None) for name in [*names, _HEAD]), backbone.group_matcher(coarse=False), reverse=True)
    return {name: layers[_HEAD] - layers[name] for name in names}


class LARS(torch.optim.Optimizer):
    """Layer-wise Adaptive Rate Scaling. You, Gitman, Ginsburg, 2017. https://arxiv.org/abs/1708.03888

    A matrix w with gradient g: u = g + decay * w; v <- momentum * v + trust * |w| / |u| * u; w <- w - rate * v.
    Where either length is 0, u is taken as it is. Vectors: v <- momentum * v + g, as SGD.

    Differs from the paper, as the code of Barlow Twins and VICReg does (https://github.com/facebookresearch/barlowtwins): the ratio's
    denominator is the length of the sum, |g + decay * w|, not the sum of lengths, and the rate multiplies v when it is applied, not
    what goes into it.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], config: LARSConfig) -> None:
        super().__init__(groups, {"lr": config.learning_rate, "momentum": config.momentum, "trust": config.trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure is ever given
        """One step, all tensors of a group at once."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            updates = list(torch._foreach_add([p.grad for p in parameters], parameters, alpha=group["weight_decay"]))
            if group["matrices"]:
                lengths, updated = _lengths(parameters), _lengths(updates)
                ratios = torch.where((lengths > 0) & (updated > 0), group["trust"] * lengths / updated, 1.0)
                torch._foreach_mul_(updates, list(ratios.unbind()))
            momenta = [self._momentum(p) for p in parameters]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, updates)
            torch._foreach_add_(parameters, momenta, alpha=-group["lr"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def _lengths(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm of each tensor, of whole ones where they are sharded."""
    return torch.stack([whole(norm) for norm in torch._foreach_norm(tensors)])
