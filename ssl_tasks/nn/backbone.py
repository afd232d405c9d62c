"""The timm model behind a config, with the few changes that small images need."""

from typing import Any

import timm
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from torch import nn

from schemas.encoders import Encoder
from schemas.errors import UserError, did_you_mean

_STEM_STRIDE = {"cifar": 1, "half": 2}


def create(config: Encoder) -> Any:
    """The timm model that a config describes, without classifier and without pretrained weights.

    Raises:
        UserError: if timm knows no such model, or the model takes no such argument.
    """
    if not timm.is_model(architecture(config)):
        advice = did_you_mean(architecture(config), timm.list_models()) or "see timm.list_models()"
        raise UserError(f"encoder.name '{config.name}': timm has no such model; {advice}")
    arguments = _arguments(config)
    try:
        backbone, _ = _create(config, arguments)
    except (TypeError, AssertionError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(
            f"encoder '{config.name}' cannot be made with {given}: {error}; "
            "check encoder.options, and that patch_size, depth, width and heads are given to ViTs only"
        ) from error
    if config.stem != "imagenet":
        _small_stem(backbone, config)
    if config.pooling:
        unpool(backbone)
    return backbone


def architecture(config: Encoder) -> str:
    """What `timm.create_model` knows the model by: what follows a dot in a name is the name of pretrained weights."""
    return config.name.split(".")[0]


def timm_arguments(config: Encoder) -> dict[str, Any]:
    """What `timm.create_model` takes besides, for the model that `create` makes, but for its stem and pooling."""
    return _create(config, _arguments(config))[1]


def unpool(backbone: Any) -> None:
    """Let a timm model give what it would pool: tokens (B, P + N, D), or places (B, D, H, W); what it has behind its pooling works on each."""
    backbone.reset_classifier(0, "")


def _arguments(config: Encoder) -> dict[str, Any]:
    named = {"patch_size": config.patch_size, "depth": config.depth, "embed_dim": config.width, "num_heads": config.heads}
    given = {name: value for name, value in named.items() if value is not None}
    return {"in_chans": config.channels, **given, **config.options}


def _create(config: Encoder, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The timm model, of the config's image size where its kind has one, and taking crops of other sizes where it can do so; and its arguments."""
    sized = {"img_size": config.image_size, **arguments}
    pretrained = timm.get_pretrained_cfg(architecture(config))
    of_one_size = config.is_vit or config.patch or (pretrained and pretrained.fixed_input_size)
    attempts = [{"dynamic_img_size": True, **sized}, sized] if of_one_size else []
    for attempt in attempts:
        try:
            return timm.create_model(architecture(config), pretrained=False, num_classes=0, **attempt), attempt
        except TypeError as error:
            if "img_size" not in str(error):
                raise
    return timm.create_model(architecture(config), pretrained=False, num_classes=0, **arguments), arguments


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
