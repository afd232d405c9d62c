"""Small methods that mask patches, their views in float64, and an independent look at the blocks of an encoder."""

import math
from typing import Any

import torch
from torch import Tensor

from schemas.encoders import Encoder
from schemas.spec import Spec
from ssl_tasks.data.draw import Draw
from ssl_tasks.method import Method
from ssl_tasks.methods import build
from ssl_tasks.nn.encoder import TimmEncoder

TINY: dict[str, Any] = {"name": "vit_tiny_patch16_224", "image_size": 16, "patch_size": 4, "width": 32, "depth": 3, "heads": 2, "channels": 1}
BATCH = 6


def make(config: Spec, **encoder: Any) -> Any:
    """A method in float64 around a tiny ViT of 4 x 4 patches."""
    torch.manual_seed(0)
    return build(config, TimmEncoder(Encoder(**{**TINY, **encoder}))).double()  # type: ignore[arg-type]  # of any kind


def draw(samples: int = BATCH, own: slice = slice(None), seed: int = 0) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), samples, own)


def pictures(samples: int = BATCH, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, (samples, 1, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seen(method: Method, seed: int = 0) -> list[Tensor]:
    """Views of the pictures, in float64, and what masks them."""
    return [view.double() if view.is_floating_point() else view for view in method.views(pictures(), draw(seed=seed))]


def over_pixels(mask: Tensor, side: int = 4) -> Tensor:
    """A mask (B, N) of patches as one (B, 1, H, W) of pixels."""
    grid = math.isqrt(mask.shape[1])
    return mask.view(-1, 1, grid, grid).repeat_interleave(side, 2).repeat_interleave(side, 3)


def only(rows: Tensor, patches: int = 16) -> Tensor:
    """The mask (B, N) that is true at numbers of patches (B, n)."""
    return torch.zeros(len(rows), patches, dtype=torch.bool).scatter(1, rows, True)


def blocks_of(encoder: Any, images: Tensor) -> list[Tensor]:
    """Patches after every block, as timm's own forward passes them."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, output: found.append(output[:, encoder.prefix_tokens :])) for block in encoder.backbone.blocks]
    with torch.no_grad():
        encoder.backbone(images)
    for hook in hooks:
        hook.remove()
    return found


def drift(method: Any) -> None:
    """Let a student go away from its teacher, as training does."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
