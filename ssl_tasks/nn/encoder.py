"""TimmEncoder: any timm backbone behind one face: pooled features, tokens, and their dimension."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import timm
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from schemas.encoders import Encoder
from schemas.errors import UserError, did_you_mean
from ssl_tasks.nn import vit
from ssl_tasks.nn.vit import Features

_STEM_STRIDE = {"cifar": 1, "half": 2}


class TimmEncoder(nn.Module):
    """A timm model without classifier and without pretrained weights, initialised by the caller's random state.

    Attributes:
        config: what it was made from.
        backbone: the timm model; its state dict is what a checkpoint holds.
        dim: length of the pooled feature vector.

    Raises:
        UserError: if timm knows no such model, or the model takes no such argument.
    """

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.config = config
        backbone = _backbone(config)
        self.backbone = backbone
        self.dim: int = getattr(backbone, "head_hidden_size", None) or backbone.num_features

    @property
    def width(self) -> int:
        """Length of a patch's or place's feature."""
        return int(self.backbone.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (B, dim) of normalised images (B, C, H, W): CLS token of a ViT, global average of a ConvNet.

        Plain ViTs also take crops of another size than `config.image_size`, as long as it is a multiple of the patch.
        """
        pooled: Tensor = self.backbone(images)
        return pooled

    def tokens(self, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Features:
        """Pooled features (B, dim), and one feature a patch or place, row by row: (B, N, width of the last block).

        Args:
            mask: (B, N), true where a patch is replaced by `mask_token` (width,); ViTs only.
        """
        return self.multi_crop([images], [mask], mask_token)[0]

    def multi_crop(self, crops: list[Tensor], masks: Sequence[Tensor | None] = (), mask_token: Tensor | None = None) -> list[Features]:
        """Features of crops (B_i, C, S_i, S_i) of any sizes, in their order; those of equal size are best joined beforehand.

        Args:
            masks: (B_i, N_i) or None a crop, true where a patch is replaced by `mask_token` (width,); none masked where empty. ViTs only.
        """
        if not self.is_vit:
            assert not any(mask is not None for mask in masks), "only a ViT's patches can be masked"
            return [self._features(self.backbone.forward_features(crop)) for crop in crops]
        given = masks or [None] * len(crops)
        sequences = [vit.embed(self.backbone, crop, mask, mask_token) for crop, mask in zip(crops, given, strict=True)]
        return [self._features(tokens) for tokens in vit.through_blocks(self.backbone, sequences)]

    def visible(self, images: Tensor, kept: Tensor) -> Tensor:
        """Tokens (B, prefix_tokens + n, width) of an image of which only some patches go in: prefix tokens first, then those patches.

        Args:
            kept: (B, n), numbers of the patches that go in. ViTs only.
        """
        tokens = vit.embed(self.backbone, images, kept=kept)
        return vit.through_blocks(self.backbone, [tokens])[0]

    @property
    def is_vit(self) -> bool:
        """Whether it has patch tokens that can be masked and dropped."""
        return vit.is_vit(self.backbone)

    @property
    def prefix_tokens(self) -> int:
        """How many tokens come before the patches: CLS and registers."""
        return getattr(self.backbone, "num_prefix_tokens", 0)

    def grid(self, size: int) -> int:
        """Patches along a side of a crop of `size`; ViTs only."""
        return size // int(self.backbone.patch_embed.patch_size[0])

    def _features(self, features: Tensor) -> Features:
        pooled: Tensor = self.backbone.forward_head(features, pre_logits=True)
        if features.ndim == 3:
            return Features(pooled, features[:, self.prefix_tokens :])
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            return Features(pooled, features.flatten(1, 2))
        return Features(pooled, features.flatten(2).transpose(1, 2))


def parameters(module: nn.Module) -> int:
    """How many numbers the module's parameters hold, trainable or not."""
    return sum(p.numel() for p in module.parameters())


def _backbone(config: Encoder) -> Any:
    architecture = config.name.split(".")[0]  # what follows a dot names pretrained weights
    if not timm.is_model(architecture):
        advice = did_you_mean(architecture, timm.list_models()) or "see timm.list_models()"
        raise UserError(f"encoder.name '{config.name}': timm has no such model; {advice}")
    arguments = _arguments(config)
    try:
        backbone = _create(architecture, arguments)
    except (TypeError, AssertionError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(
            f"encoder '{config.name}' cannot be made with {given}: {error}; "
            "check encoder.options, and that patch_size, depth, width and heads are given to ViTs only"
        ) from error
    if config.stem != "imagenet":
        _small_stem(backbone, config)
    return backbone


def _arguments(config: Encoder) -> dict[str, Any]:
    named = {"patch_size": config.patch_size, "depth": config.depth, "embed_dim": config.width, "num_heads": config.heads}
    given = {name: value for name, value in named.items() if value is not None}
    size = {"img_size": config.image_size} if config.is_vit else {}
    return {"in_chans": config.channels, **size, **given, **config.options}


def _create(architecture: str, arguments: dict[str, Any]) -> nn.Module:
    """The timm model, with position embeddings that follow the crop's size where it is a transformer that can do so."""
    fixed = partial(timm.create_model, architecture, pretrained=False, num_classes=0, **arguments)
    if "img_size" in arguments:
        try:
            dynamic: nn.Module = fixed(dynamic_img_size=True)
            return dynamic
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
    model: nn.Module = fixed()
    return model


def _small_stem(backbone: nn.Module, config: Encoder) -> None:
    """Let the stem of a ResNet keep the resolution of a small image: 3x3 convolution, no pooling.

    A deep stem is 3x3 already and only loses its stride. Sources: SimCLR (https://arxiv.org/abs/2002.05709), appendix B.9.
    """
    if not isinstance(backbone, (ResNet, ResNetV2)):
        raise UserError(f"encoder.stem '{config.stem}' is for ResNets, and '{config.name}' is none: leave it out")
    stem, pool = (backbone, "maxpool") if isinstance(backbone, ResNet) else (backbone.stem, "pool")
    path, first = next((name, m) for name, m in stem.named_modules() if isinstance(m, nn.Conv2d))
    stride = _STEM_STRIDE[config.stem]
    if first.kernel_size == (7, 7):
        holder = stem.get_submodule(path.rpartition(".")[0])
        small = type(first)(first.in_channels, first.out_channels, 3, stride=stride, padding=1, bias=first.bias is not None)
        setattr(holder, path.rpartition(".")[2], small)
    else:
        first.stride = (stride, stride)
    setattr(stem, pool, nn.Identity())
