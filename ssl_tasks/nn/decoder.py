"""PatchDecoder: a light transformer that says something of every patch from the tokens of some; thrown away after training.

Shapes: B images, N patches of a square grid, n of them visible, P prefix tokens, D the decoder's width.
"""

import torch
from timm.layers.norm import LayerNorm
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class PatchDecoder(nn.Module):
    """Blocks over visible tokens and, in the place of each other patch, one learned mask token. Positions are sines and cosines, fixed.

    https://arxiv.org/abs/2111.06377, section 3, "MAE decoder"
    """

    positions: Tensor

    def __init__(self, encoder_width: int, prefix_tokens: int, grid: int, outputs: int, width: int, depth: int, heads: int) -> None:
        """
        Args:
            encoder_width: of the tokens that come in.
            prefix_tokens: how many of these, the first, are no patches.
            grid: patches along a side.
            outputs: numbers that are said of a patch.
            width: D, a multiple of 4 and of `heads`.
        """
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = LayerNorm(width)
        self.output = nn.Linear(width, outputs)
        self.register_buffer("positions", build_sincos2d_pos_embed([grid, grid], width), persistent=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """What is said of every patch, (B, N, outputs).

        Args:
            tokens: (B, P + n, encoder_width), as `TimmEncoder.visible` gives them.
            kept: (B, n), the numbers of the visible patches.
        """
        x = self.embed(tokens)
        prefix, visible = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        masked = self.mask_token.to(x.dtype).expand(len(x), *self.positions.shape)
        everywhere = masked.scatter(1, kept[..., None].expand_as(visible), visible)
        x = self.blocks(torch.cat([prefix, everywhere + self.positions], dim=1))
        said: Tensor = self.output(self.norm(x[:, self.prefix_tokens :]))
        return said
