"""Branches: networks that begin where another one's trunk ends, each with a last stage of its own.

Shapes: n images; a trunk says maps (n, C, H, W) of a ConvNet, all tokens (n, P + N, D) of a ViT.
"""

from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from schemas.errors import UserError
from ssl_tasks.nn.encoder import TimmEncoder


class Trunk:
    """What a network's encoder says below its last stage, at each forward of the network.

    Args:
        network: is hooked to; not kept.
        encoder: of the network.

    Raises:
        UserError: where it is not known how to split the encoder.
    """

    def __init__(self, network: nn.Module, encoder: TimmEncoder) -> None:
        self._said: list[Tensor] = []
        self._listens = False
        encoder.backbone.get_submodule(_end_of_trunk(encoder)).register_forward_hook(self._hear)
        network.register_forward_pre_hook(self._open)
        network.register_forward_hook(self._close)
        if encoder.is_vit:
            encoder.run_whole_blocks()

    def take(self, images: int) -> Tensor:
        """What it said of the first `images` images of the last forward, which is then forgotten.

        Raises:
            UserError: where it was not heard, as nothing is in a compiled network.
        """
        said, heard = list[Tensor](), 0
        while heard < images and self._said:
            said.append(self._said.pop(0))
            heard += len(said[-1])
        self._said.clear()
        if heard < images:
            raise UserError("branches begin in the middle of the network, into which train.compile lets nobody look: leave it out")
        return torch.cat(said) if len(said) > 1 else said[0]

    def _open(self, *_: Any) -> None:
        self._said.clear()
        self._listens = True

    def _close(self, *_: Any) -> None:
        self._listens = False

    def _hear(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        """Only within a forward of the network: not when a block is computed again in the backward pass."""
        if self._listens:
            self._said.append(output)


def branch(encoder: TimmEncoder) -> TimmEncoder:
    """A network of the same config with random weights, cut to its last stage: it takes what the trunk says, and gives features (n, dim).

    Raises:
        UserError: where it is not known how to split the encoder.
    """
    _end_of_trunk(encoder)
    cut = TimmEncoder(encoder.config)
    backbone: Any = cut.backbone
    match backbone:
        case ResNet():
            _empty(backbone, "conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3")
        case ResNetV2() | ConvNeXt():
            _empty(backbone, "stem")
            backbone.stages = backbone.stages[-1:]
        case _:
            _empty(backbone, "patch_embed", "patch_drop", "norm_pre")
            backbone.pos_embed = backbone.cls_token = backbone.reg_token = None
            backbone.blocks = backbone.blocks[-_last_blocks(backbone) :]
    return cut


def mean_of_places(said: Tensor) -> Tensor:
    """One feature an image, (n, C or D), of what a trunk says."""
    return said.mean(dim=(2, 3)) if said.ndim == 4 else said.mean(dim=1)


def _end_of_trunk(encoder: TimmEncoder) -> str:
    """Path of the last module of the timm model that branches share: all stages but the last, or two thirds of a ViT's blocks."""
    backbone: Any = encoder.backbone
    if type(backbone) is ResNet:
        return "layer3"
    if type(backbone) in (ResNetV2, ConvNeXt):
        return f"stages.{len(backbone.stages) - 2}" if len(backbone.stages) > 1 else "stem"
    if type(backbone) is VisionTransformer and not encoder.config.pooling:
        shared = len(backbone.blocks) - _last_blocks(backbone)
        return f"blocks.{shared - 1}" if shared else "norm_pre"
    pooling = " with encoder.pooling" * bool(encoder.config.pooling)
    raise UserError(f"it is not known where '{encoder.config.name}'{pooling} splits into branches: take a ResNet, a ConvNeXt or a plain ViT")


def _last_blocks(vit: Any) -> int:
    return max(1, round(len(vit.blocks) / 3))


def _empty(backbone: nn.Module, *names: str) -> None:
    """Let parts of a timm model do nothing."""
    for name in names:
        setattr(backbone, name, nn.Sequential())
