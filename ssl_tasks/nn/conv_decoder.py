"""ConvDecoder: a few convolutions that say something of every patch from the tokens of some; thrown away after training.

Shapes: B images, N patches of a square grid, n of them visible, W the encoder's width, D the decoder's.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm


class ConvDecoder(nn.Module):
    """Convolutions over the grid of visible tokens and, in the place of each other patch, one learned mask token.

    Each is followed by a layer norm over channels, without gain, and GELU; its input is added where it is as wide.
    https://arxiv.org/abs/2212.07525, section 3.2

    Args:
        width: W.
        hidden: D, as W a multiple of `groups`.
        kernel: side of a convolution, odd.
    """

    def __init__(self, width: int, hidden: int, depth: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.layers = nn.ModuleList(nn.Conv2d(hidden if i else width, hidden, kernel, padding=kernel // 2, groups=groups) for i in range(depth))
        self.output = nn.Linear(hidden, width)

    def forward(self, visible: Tensor, kept: Tensor, grid: int) -> Tensor:
        """What is said of every patch, (B, N, W).

        Args:
            visible: (B, n, W).
            kept: (B, n), the numbers of the visible patches.
            grid: patches along a side.
        """
        masked = self.mask_token.to(visible.dtype).expand(len(visible), grid**2, -1)
        x = masked.scatter(1, kept[..., None].expand_as(visible), visible).mT.reshape(len(visible), -1, grid, grid)
        for layer in self.layers:
            y = layer(x).movedim(1, -1)
            y = gelu(layer_norm(y, y.shape[-1:])).movedim(-1, 1)
            x = x + y if x.shape == y.shape else y
        said: Tensor = self.output(x.flatten(2).mT)
        return said
