"""Tokens of timm's vision transformers: masked, dropped, and of crops of several sizes.

Works on plain ViTs (`VisionTransformer`: positions learned) and on `Eva` (rotary positions: the DINOv3 family). Shapes: B images,
N patches, P prefix tokens (CLS and registers), D width.
"""

from typing import Any, NamedTuple

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class Features(NamedTuple):
    """What an encoder says of a crop: one vector for it, and one a patch or place, row by row."""

    pooled: Tensor
    """(B, dim): CLS token of a ViT, global average of a ConvNet."""
    patches: Tensor
    """(B, N, width)."""


class Sequence(NamedTuple):
    """Tokens on their way through the blocks."""

    tokens: Tensor
    """(B, P + N, D)."""
    rope: Tensor | None
    """Rotary embedding of the N patches, None where positions are learned."""


def is_vit(backbone: nn.Module) -> bool:
    """Whether the functions of this file work on a timm model."""
    return isinstance(backbone, (VisionTransformer, Eva))


def embed(backbone: Any, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None, kept: Tensor | None = None) -> Sequence:
    """Patches and prefix tokens with their positions.

    Args:
        mask: (B, N), true where a patch is replaced by `mask_token` (D,) before positions are added, as in BEiT.
        kept: (B, n), the numbers of the patches that go in, all others are dropped after positions are added, as in MAE.
    """
    patches: Tensor = backbone.patch_embed(images)
    if mask is not None:
        assert mask_token is not None
        patches = torch.where(mask.view(*patches.shape[:-1], 1), mask_token.to(patches.dtype), patches)
    placed = backbone._pos_embed(patches)
    tokens, rope = placed if isinstance(placed, tuple) else (placed, None)
    if kept is not None:
        prefix = backbone.num_prefix_tokens
        rows = kept[..., None].expand(-1, -1, tokens.shape[-1])
        tokens = torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, rows)], dim=1)
        if rope is not None:
            rope = rope[kept].unsqueeze(1)
    return Sequence(backbone.norm_pre(tokens), rope)


def through_blocks(backbone: Any, sequences: list[Sequence]) -> list[Tensor]:
    """Tokens (B, P + N, D) of each sequence after the last block and its norm."""
    return [_one(backbone, sequence) for sequence in sequences]


def _one(backbone: Any, sequence: Sequence) -> Tensor:
    x = sequence.tokens
    for block in backbone.blocks:
        x = block(x) if sequence.rope is None else block(x, rope=sequence.rope)
    normed: Tensor = backbone.norm(x)
    return normed
