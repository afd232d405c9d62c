"""RowsAbove: a network over a grid of features that tells each place of its own row and of rows above, never of rows below."""

from torch import Tensor, nn
from torch.nn.functional import pad


class RowsAbove(nn.Module):
    """Residual blocks of masked convolutions, after which a place has seen its own row and `depth` rows above, `depth` columns to each side.

    The context network of CPC v2, https://arxiv.org/abs/1905.09272, which stands for CPC's PixelCNN.
    """

    def __init__(self, dim: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(dim, hidden) for _ in range(depth))

    def forward(self, places: Tensor) -> Tensor:
        """Contexts (B, H, W, D) of places (B, H, W, D)."""
        x = places.permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x)
        return x.relu().permute(0, 2, 3, 1)


class _Block(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1)))
        self.above = nn.Conv2d(hidden, hidden, (2, 1))
        self.after = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        row_above_first = (0, 0, 1, 0)  # left, right, top, bottom
        return x + self.after(self.above(pad(self.before(x), row_above_first)))  # type: ignore[no-any-return]  # a module's call is untyped
