"""An encoder as the backbone of a detector: maps of features at several strides.

A plain ViT gives one map, of which the simple feature pyramid makes four, from four times as fine to half as fine: ViTDet,
https://arxiv.org/abs/2203.16527, section 3. A network that gives maps of several strides gets a feature pyramid of the last four of them:
https://arxiv.org/abs/1612.03144. As in either paper another map, half as fine as the last, is for the proposals alone.

Differs from ViTDet: windows of attention stay as the encoder has them; strides are a quarter of the patch to two patches, so 4 to 32 for
patches of 16. Regions are pooled at strides that are powers of two: for patches of 14 an image is shrunk by 14/16 on its way in.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import cast

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ssl_tasks.evaluate.dense.grids import places, power_of_two, reading
from ssl_tasks.nn.encoder import TimmEncoder

_MAPS = 4


class Pyramid(nn.Module):
    """Maps of `width` channels, by name, finest first.

    Attributes:
        out_channels: `width`.
        names: of the maps that boxes are pooled from.
        strides: in pixels, of every map; the last one's is for proposals alone.

    Args:
        encoder: its parameters are trained where they ask for gradients; it stays in eval mode, so that its batch norms hold still.
    """

    def __init__(self, encoder: TimmEncoder, width: int) -> None:
        super().__init__()
        self.encoder, self.out_channels = encoder, width
        self._scale = encoder.patch / max(4, power_of_two(encoder.patch)) if encoder.is_vit else 1.0
        side = power_of_two(2 * max(encoder.config.image_size, 32))
        with torch.no_grad():
            maps = self._maps(torch.zeros(1, encoder.config.channels, side, side, device=next(encoder.parameters()).device))
        own = [power_of_two(side / features.shape[-1]) for features in maps]
        self.neck = _Simple(maps[0].shape[1], width) if len(maps) == 1 else _FPN([features.shape[1] for features in maps], width)
        strides = [own[0] // 4, own[0] // 2, own[0], 2 * own[0]] if len(maps) == 1 else own
        self.strides = [*strides, 2 * strides[-1]]
        self.names = [str(i) for i in range(len(strides))]

    @property
    def step(self) -> int:
        """Sides of images must be multiples of it."""
        return self.strides[-2]

    def train(self, mode: bool = True) -> "Pyramid":
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (B, width, h, w) of normalised images (B, C, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(p.requires_grad for p in self.encoder.parameters())):
            maps = self._maps(images)
        return cast(dict[str, Tensor], self.neck(maps))

    def _maps(self, images: Tensor) -> list[Tensor]:
        """The last four maps of different strides, finest first; one of a network that gives but one."""
        backbone = self.encoder.backbone
        if self._scale != 1:
            images = interpolate(images, size=[round(self._scale * side) for side in images.shape[-2:]], mode="bilinear", antialias=True)
        if self.encoder.is_vit or not hasattr(backbone, "forward_intermediates"):
            return [places(self.encoder, images)]
        with reading(self.encoder, images):
            maps: list[Tensor] = backbone.forward_intermediates(images, intermediates_only=True)
        deepest = [fine for fine, coarse in pairwise(maps) if fine.shape[-1] > coarse.shape[-1]] + maps[-1:]
        return deepest[-_MAPS:]


class _Simple(nn.Module):
    """Four maps of one: by transposed convolutions four times and twice as fine, as it is, and half as fine."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half, quarter = max(1, channels // 2), max(1, channels // 4)
        finest = nn.Sequential(nn.ConvTranspose2d(channels, half, 2, 2), LayerNorm2d(half), nn.GELU(), nn.ConvTranspose2d(half, quarter, 2, 2))
        scales: list[tuple[nn.Module, int]] = [
            (finest, quarter), (nn.ConvTranspose2d(channels, half, 2, 2), half), (nn.Identity(), channels), (nn.MaxPool2d(2), channels),
        ]  # fmt: skip
        self.scales = nn.ModuleList(nn.Sequential(scale, *_smooth(deep, width)) for scale, deep in scales)
        self.last = LastLevelMaxPool()

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        found = [scale(maps[0]) for scale in self.scales]
        return _named(*self.last(found, found, [str(i) for i in range(len(found))]))


class _FPN(nn.Module):
    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(channels, width, LastLevelMaxPool())

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.pyramid(OrderedDict((str(i), features) for i, features in enumerate(maps)))
        return found


def _smooth(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 1, bias=False), LayerNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width)]


def _named(maps: list[Tensor], names: list[str]) -> dict[str, Tensor]:
    return OrderedDict(zip(names, maps, strict=True))
