"""What a ViT's last blocks say of images: the tokens after each of them.

`last_blocks` is as timm's `get_intermediate_layers` with `norm`: the norm behind the last block is laid over each. Shapes: B images,
P prefix tokens, N patches, W width.
"""

from typing import Any

from torch import Tensor, nn

from schemas.errors import UserError
from ssl_tasks.nn import vit
from ssl_tasks.nn.encoder import TimmEncoder


def last_blocks(encoder: TimmEncoder, images: Tensor, count: int) -> list[Tensor]:
    """Tokens (B, P + N, W) after each of the last `count` blocks, the last one's first. Plain ViTs only.

    A model that pools before its norm has none behind the last block: then it is the norm behind the pooling that is laid over tokens.

    Args:
        images: normalised, (B, C, H, W).
    """
    backbone: Any = encoder.backbone
    norm = backbone.fc_norm if isinstance(backbone.norm, nn.Identity) else backbone.norm
    return [norm(tokens) for tokens in _after_blocks(encoder, images, count)]


def patches_after_blocks(encoder: TimmEncoder, images: Tensor, count: int) -> list[Tensor]:
    """Patches (B, N, W) after each of the last `count` blocks, the last one's first, with no norm laid over them. Every ViT."""
    return [tokens[:, encoder.prefix_tokens :] for tokens in _after_blocks(encoder, images, count)]


def check_blocks(encoder: TimmEncoder, count: int, kind: str) -> None:
    """Raises UserError where a method wants to hear of more blocks than there are."""
    backbone: Any = encoder.backbone
    if count > (depth := len(backbone.blocks)):
        raise UserError(f"{kind}: method.target_blocks {count} is more than the {depth} blocks of encoder '{encoder.config.name}': set it to at most {depth}")


def _after_blocks(encoder: TimmEncoder, images: Tensor, count: int) -> list[Tensor]:
    backbone: Any = encoder.backbone
    tokens, ropes = vit.embed(backbone, images)
    kept: list[Tensor] = []
    for i, block in enumerate(backbone.blocks):
        tokens = block(tokens, *([ropes[i]] if ropes else []))
        if i >= len(backbone.blocks) - count:
            kept.insert(0, tokens)
    return kept
