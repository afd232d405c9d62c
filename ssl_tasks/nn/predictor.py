"""PatchPredictor: a narrow transformer that says something of patches that are asked for, from the tokens of others; thrown away after training.

Shapes: B images, n visible patches, P prefix tokens, T sets of m patches that are asked for, W the encoder's width, D the predictor's.
"""

import math

import torch
from timm.layers.norm import LayerNorm
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class PatchPredictor(nn.Module):
    """Blocks over visible tokens and a learned mask token at each place that is asked for. Positions are sines and cosines, fixed.

    Each of the T sets is answered on its own, without a look at the others. https://arxiv.org/abs/2301.08243, section 3, "Prediction".
    Linear layers begin as truncated normals of 0.02, those that end a residual branch of layer l over the root of 2 l, as in the authors' code.
    """

    positions: Tensor

    def __init__(self, encoder_width: int, prefix_tokens: int, grid: int, width: int, depth: int, heads: int) -> None:
        """
        Args:
            encoder_width: W, of the tokens that come in and of what is said.
            prefix_tokens: how many tokens, the first, are no patches.
            grid: patches along a side.
            width: D, a multiple of 4 and of `heads`.
        """
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = LayerNorm(width)
        self.output = nn.Linear(width, encoder_width)
        self.register_buffer("positions", build_sincos2d_pos_embed([grid, grid], width), persistent=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            for name, weight in self.blocks.named_parameters():
                if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
                    weight.div_(math.sqrt(2 * (int(name.split(".")[0]) + 1)))

    def forward(self, tokens: Tensor, kept: Tensor, asked: Tensor) -> Tensor:
        """What is said of the patches that are asked for, (B, T, m, W).

        Args:
            tokens: (B, P + n, W), as `TimmEncoder.visible` gives them.
            kept: (B, n), the numbers of the visible patches.
            asked: (B, T, m), the numbers of those that are asked for.
        """
        x = self.embed(tokens)
        prefix, visible = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        context = torch.cat([prefix, visible + self.positions[kept]], dim=1).repeat_interleave(asked.shape[1], dim=0)
        questions = self.mask_token + self.positions[asked.flatten(0, 1)]
        x = self.blocks(torch.cat([context, questions], dim=1))[:, context.shape[1] :]
        said: Tensor = self.output(self.norm(x))
        return said.view(*asked.shape, -1)
