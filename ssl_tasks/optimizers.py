"""Optimizers, from their specs in `schemas/training.py`."""

from typing import assert_never

import torch
from torch import nn

from schemas.training import SGD, AdamW, Optimizer


def build(config: Optimizer, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a module's trainable parameters.

    Vectors and scalars (biases, the gains of norms, tokens of one dimension) are not decayed: pulling them towards zero
    regularises nothing. On CUDA the whole step is one fused kernel.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(parameter.is_cuda for parameter in trained)
    match config:
        case AdamW():
            return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=fused)
        case SGD():
            return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=fused)
        case _:
            assert_never(config)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of parameters the learning rate of this step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
