"""Blocks of a vision transformer over crops of several sizes in one pass.

All but attention is done token by token. So the tokens of all crops are one list (T, D), and norms, projections and MLPs are few
large matrix products; only attention takes the list apart, as no crop may see another. Blocks of a kind that this file does not know
are run as timm has them, one crop after the other.

Stochastic depth (https://arxiv.org/abs/1603.09382) saves what it drops: a residual branch is computed for a random part of the
samples and weighed by all over that part, as in DINOv2 (https://arxiv.org/abs/2304.07193, section 5). The part is the nearest number
of samples, at least one, so that a small batch with a small rate may drop none.

Shapes: T tokens of all crops; of one crop B samples of L tokens, H heads of d dimensions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.layers.mlp import GluMlp, Mlp, SwiGLU
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint


class Sequence(NamedTuple):
    """Tokens of a crop on their way through the blocks."""

    tokens: Tensor
    """(B, P + N, D)."""
    ropes: tuple[Tensor, ...]
    """Rotary embedding of the N patches in each block, with a first dimension B where samples differ; empty where positions are learned."""


class Part(NamedTuple):
    """Which tokens of the list belong to one crop: B samples of L tokens each, and what turns them."""

    samples: int
    length: int
    rope: Tensor | None

    @property
    def tokens(self) -> int:
        return self.samples * self.length


Branch = Callable[[Tensor, list[Part]], Tensor]


def through_blocks(backbone: Any, sequences: list[Sequence], checkpointing: bool = False, whole: bool = False) -> list[Tensor]:
    """Tokens (B, P + N, D) of each sequence after the last block and its norm.

    Args:
        checkpointing: whether a block's inner activations are computed again in the backward pass instead of kept.
        whole: whether blocks are run as modules, so that their forward hooks are called.
    """
    if whole or not all(is_known(block) for block in backbone.blocks):
        return [backbone.norm(_as_timm_has_it(backbone.blocks, sequence, checkpointing)) for sequence in sequences]
    x = _joined([sequence.tokens.flatten(0, 1) for sequence in sequences])
    for i, block in enumerate(backbone.blocks):
        parts = [Part(s.tokens.shape[0], s.tokens.shape[1], s.ropes[i] if s.ropes else None) for s in sequences]
        x = _run(getattr(block, "packed", None) or partial(run_block, block), checkpointing, x, parts)  # sharding hooks into `packed`
    x = backbone.norm(x)
    each = torch.split(x, [len(s.tokens) * s.tokens.shape[1] for s in sequences])
    return [tokens.view(s.tokens.shape) for tokens, s in zip(each, sequences, strict=True)]


def is_known(block: nn.Module) -> bool:
    """Whether `run_block` knows how to run a block."""
    kinds = (Attention, AttentionRope, EvaAttention), (Mlp, GluMlp, SwiGLU)
    return isinstance(block, (Block, EvaBlock)) and type(block.attn) in kinds[0] and type(block.mlp) in kinds[1]


def _as_timm_has_it(blocks: nn.ModuleList, sequence: Sequence, checkpointing: bool) -> Tensor:
    x = sequence.tokens
    for i, block in enumerate(blocks):
        x = _run(block, checkpointing, x, *([sequence.ropes[i]] if sequence.ropes else []))
    return x


def _run(function: Callable[..., Any], checkpointing: bool, *args: Any) -> Tensor:
    result: Tensor = checkpoint(function, *args, use_reentrant=False) if checkpointing else function(*args)
    return result


def run_block(block: Any, x: Tensor, parts: list[Part]) -> Tensor:
    """Both residual branches of a block with its norms in front."""

    def attention(tokens: Tensor, parts: list[Part]) -> Tensor:
        return _scaled(block, 1, _attention(block.attn, block.norm1(tokens), parts))

    def mlp(tokens: Tensor, _: list[Part]) -> Tensor:
        return _scaled(block, 2, block.mlp(block.norm2(tokens)))

    x = _residual(x, parts, block.drop_path1, attention)
    return _residual(x, parts, block.drop_path2, mlp)


def last_attention(backbone: Any, sequence: Sequence) -> Tensor:
    """How much each token of a crop reads from each other in the last block, (B, H, L, L): rows sum to one."""
    block = backbone.blocks[-1]
    x = block.norm1(_as_timm_has_it(backbone.blocks[:-1], sequence, checkpointing=False))
    q, k, _ = (t.view(len(x), x.shape[1], *t.shape[1:]).transpose(1, 2) for t in _projected(block.attn, x.flatten(0, 1)))
    q, k = block.attn.q_norm(q), block.attn.k_norm(k)
    if sequence.ropes:
        q, k = (_turned(block.attn, t, sequence.ropes[-1]) for t in (q, k))
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    weights: Tensor = (q @ k.mT * block.attn.head_dim**-0.5).float().softmax(dim=-1)
    return weights


def _scaled(block: Any, number: int, x: Tensor) -> Tensor:
    """LayerScale, which the two families keep in different places."""
    if isinstance(block, Block):
        scaled: Tensor = getattr(block, f"ls{number}")(x)
        return scaled
    gamma = getattr(block, f"gamma_{number}")
    return x if gamma is None else gamma * x


def _residual(x: Tensor, parts: list[Part], drop_path: Any, branch: Branch) -> Tensor:
    """x and a branch of it; in train mode with stochastic depth the branch of some samples only."""
    rate = drop_path.drop_prob if drop_path.training and not isinstance(drop_path, nn.Identity) else 0.0
    if not rate:
        return x + branch(x, parts)
    rows, weights, chosen = _some(parts, rate, x)
    return x.index_add(0, rows, (weights * branch(x[rows], chosen)).to(x.dtype))


def _some(parts: list[Part], rate: float, x: Tensor) -> tuple[Tensor, Tensor, list[Part]]:
    """A random share 1 - `rate` of each part's samples: their rows of x (t,), weights (t, 1), and the parts that they make."""
    rows, weights, chosen, start = [], [], [], 0
    for samples, length, rope in parts:
        count = max(1, round(samples * (1 - rate)))
        kept = torch.randperm(samples, device=x.device)[:count]
        rows.append((start + kept[:, None] * length + torch.arange(length, device=x.device)).flatten())
        weights.append(x.new_full((count * length, 1), samples / count))
        chosen.append(Part(count, length, rope[kept] if rope is not None and rope.ndim == 4 else rope))
        start += samples * length
    return torch.cat(rows), torch.cat(weights), chosen


def _joined(tokens: list[Tensor]) -> Tensor:
    """One list of them, without a copy where there is one already."""
    return torch.cat(tokens) if len(tokens) > 1 else tokens[0]


def _attention(attn: Any, x: Tensor, parts: list[Part]) -> Tensor:
    """Self-attention of tokens (T, D), each sample's among themselves."""
    q, k, v = _projected(attn, x)
    q, k = attn.q_norm(q), attn.k_norm(k)
    sizes = [part.tokens for part in parts]
    each = zip(*(torch.split(t, sizes) for t in (q, k, v)), parts, strict=True)
    y = attn.norm(_joined([_among_themselves(attn, *own) for own in each]))
    if attn.gate is not None:
        y = y * attn.gate(x).sigmoid()
    out: Tensor = attn.proj_drop(attn.proj(y))
    return out


def _projected(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (T, H, d) each; there may be fewer heads of keys and values."""
    if attn.qkv is None:
        q, k, v = (project(x).view(len(x), -1, attn.head_dim) for project in (attn.q_proj, attn.k_proj, attn.v_proj))
        return q, k, v
    qkv = attn.qkv(x)
    if getattr(attn, "q_bias", None) is not None:
        qkv = qkv + torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    q, k, v = qkv.view(len(x), 3, -1, attn.head_dim).unbind(1)
    return q, k, v


def _among_themselves(attn: Any, q: Tensor, k: Tensor, v: Tensor, part: Part) -> Tensor:
    """What the tokens of one part read from each other, (B * L, H * d)."""
    q, k, v = (t.view(part.samples, part.length, *t.shape[1:]).transpose(1, 2) for t in (q, k, v))
    if part.rope is not None:
        q, k = (_turned(attn, t, part.rope).to(v.dtype) for t in (q, k))
    dropout = attn.attn_drop.p if attn.training else 0.0
    read = scaled_dot_product_attention(q, k, v, dropout_p=dropout, enable_gqa=q.shape[1] != k.shape[1])
    return read.transpose(1, 2).flatten(2).flatten(0, 1)


def _turned(attn: Any, x: Tensor, rope: Tensor) -> Tensor:
    """Patches turned by where they are; prefix tokens are nowhere."""
    prefix, patches = x[:, :, : attn.num_prefix_tokens], x[:, :, attn.num_prefix_tokens :]
    return torch.cat([prefix, apply_rot_embed_cat(patches, rope, half=attn.rotate_half)], dim=2)
