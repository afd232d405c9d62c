"""Sparse convolutions the dense way: a ConvNeXt in which masked places are empty wherever one place looks at others.

https://arxiv.org/abs/2301.00808, section 3, "FCMAE". That is so in convolutions and in the global response normalisation of ConvNeXt V2:
what goes in them is emptied, and so is what comes out of each block. All else works place by place. Shapes: B images, N places of the
last stage, D channels.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def sparse_features(backbone: Any, images: Tensor, mask: Tensor) -> Tensor:
    """The last feature map (B, D, H, W), zero where masked.

    Args:
        backbone: timm's ConvNeXt.
        images: (B, C, H, W).
        mask: (B, N), true where masked.
    """
    grid = math.isqrt(mask.shape[1])
    seen = ~mask.view(-1, 1, grid, grid)
    x = _run(backbone.stem, images, seen)
    for stage in backbone.stages:
        x = _run(stage.downsample, x, seen)
        for block in stage.blocks:
            again = stage.grad_checkpointing and torch.is_grad_enabled()
            x = checkpoint(_run, block, x, seen, use_reentrant=False) if again else _run(block, x, seen)
    return _run(backbone.norm_pre, x, seen)


def _run(layer: nn.Module, x: Tensor, seen: Tensor) -> Tensor:
    """What a layer makes of a map of which only some places are seen, empty at all others."""
    with _empty_inside(layer, seen):
        return _emptied(layer(x), seen)


@contextmanager
def _empty_inside(layer: nn.Module, seen: Tensor) -> Iterator[None]:
    """Masked places are empty before every convolution and response normalisation in `layer`."""

    def before(module: Any, inputs: tuple[Tensor]) -> Tensor:
        return _emptied(inputs[0], seen, getattr(module, "channel_dim", 1))

    handles = [part.register_forward_pre_hook(before) for part in layer.modules() if isinstance(part, (nn.Conv2d, GlobalResponseNorm))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _emptied(x: Tensor, seen: Tensor, channels: int = 1) -> Tensor:
    """A map with zeros where it is not seen (B, 1, H, W); `channels` is the dimension of its channels, the second or the last."""
    times = x.shape[2] // seen.shape[2]
    finer = seen.repeat_interleave(times, 2).repeat_interleave(times, 3)
    return torch.where(finer if channels == 1 else finer.permute(0, 2, 3, 1), x, 0)
