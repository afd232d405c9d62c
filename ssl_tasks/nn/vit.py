"""Tokens of timm's vision transformers: masked, dropped, and of crops of several sizes.

Works on plain ViTs (`VisionTransformer`: positions learned) and on `Eva` (rotary positions: the DINOv3 family). Shapes: B images,
N patches, P prefix tokens (CLS and registers), D width.
"""

from typing import Any, NamedTuple

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from schemas.errors import UserError
from ssl_tasks.nn.packed import Sequence


class Features(NamedTuple):
    """What an encoder says of a crop: one vector for it, and one a patch or place, row by row."""

    pooled: Tensor
    """(B, dim): CLS token of a ViT, global average of a ConvNet."""
    patches: Tensor
    """(B, N, width)."""


def is_vit(backbone: nn.Module) -> bool:
    """Whether the functions of this file work on a timm model: one that cuts the image itself, not a ConvNet's features of it, in patches."""
    return isinstance(backbone, (VisionTransformer, Eva)) and type(backbone.patch_embed) is PatchEmbed


def embed(backbone: Any, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None, kept: Tensor | None = None) -> Sequence:
    """Patches and prefix tokens with their positions.

    Args:
        images: (B, C, H, W); learned positions are resized where these are not of the encoder's image size.
        mask: (B, N), true where a patch is replaced by `mask_token` (D,) before positions are added, as in BEiT.
        kept: (B, n), the numbers of the patches that go in, all others are dropped after positions are added, as in MAE.

    Raises:
        UserError: where the crop cannot be cut in patches.
    """
    down, across = backbone.patch_embed.patch_size
    if images.shape[-2] % down or images.shape[-1] % across:
        raise UserError(
            f"a crop of {images.shape[-2]} x {images.shape[-1]} pixels cannot be cut in patches of {down} x {across}: "
            "make image_size and views.local_size multiples of the encoder's patch_size"
        )
    patches: Tensor = backbone.patch_embed(images)
    if mask is not None:
        assert mask_token is not None
        patches = torch.where(mask.view(*patches.shape[:-1], 1), mask_token.to(patches.dtype), patches)
    placed = backbone._pos_embed(patches)
    tokens, rope = placed if isinstance(placed, tuple) else (placed, None)
    ropes = _by_block(backbone, rope, kept)
    if kept is not None:
        prefix = backbone.num_prefix_tokens
        rows = kept[..., None].expand(-1, -1, tokens.shape[-1])
        tokens = torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, rows)], dim=1)
    return Sequence(backbone.norm_pre(tokens), ropes)


def _by_block(backbone: Any, rope: Tensor | None, kept: Tensor | None) -> tuple[Tensor, ...]:
    """The rotary embedding that each block takes: of all patches the same for every image, or (B, ...) of the kept ones."""
    if rope is None:
        return ()
    if not backbone.rope_mixed:  # (N, d), the same in every block
        return (rope if kept is None else rope[kept].unsqueeze(1),) * len(backbone.blocks)
    return tuple(own if kept is None else own[:, kept].transpose(0, 1) for own in rope)  # own: (heads, N, d)
