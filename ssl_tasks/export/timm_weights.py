"""`timm`: weights that `timm.create_model(..., checkpoint_path=)` loads, with the `config.json` of its model hub. https://huggingface.co/docs/timm"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ssl_tasks.export.original import Original
from ssl_tasks.export.runtime import Images, Outputs, Runtime
from ssl_tasks.nn.backbone import architecture, timm_arguments

FILE, CONFIG = "model.safetensors", "config.json"
ADDED = ("pooling", "neck", "head", "whitening")
"""What an encoder may have behind its timm model."""


def refusal(original: Original) -> str:
    """What a checkpoint has that a timm model has no place for; empty where there is nothing."""
    config = original.artifact.encoder
    changed = {"stem": config.stem if config.stem != "imagenet" else None, "sees": config.sees if config.sees != "colours" else None}
    parts = {**changed, **{name: getattr(config, name) for name in ADDED}}
    if stated := [f"encoder.{name} {value}" for name, value in parts.items() if value]:
        return f"a timm model has no place for {', '.join(stated)}"
    if original.head is None:
        return ""
    if original.artifact.hidden:
        return "a timm model has no place for a classifier of two layers"
    classifier = created(original).get_classifier()
    if not isinstance(classifier, nn.Linear | nn.Conv2d) or classifier.weight.numel() != original.encoder.dim * len(original.artifact.classes):
        return f"the classifier of timm's {architecture(config)} is no linear layer over its {original.encoder.dim} features"
    return ""


def write(original: Original, folder: Path, _any_size: bool) -> None:
    """Write `model.safetensors`, named as timm names them, and `config.json`: architecture, arguments, preprocessing, labels."""
    model = created(original)
    weights = dict(original.encoder.backbone.state_dict())
    if isinstance(original.head, nn.Sequential):
        name = next(name for name, module in model.named_modules() if module is model.get_classifier())
        shapes = model.get_classifier().state_dict()  # of a 1x1 convolution in some models
        weights |= {f"{name}.{kind}": value.view_as(shapes[kind]) for kind, value in original.head[-1].state_dict().items()}
    model.load_state_dict(weights)
    (folder / FILE).write_bytes(save({name: value.contiguous() for name, value in weights.items()}, {"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(_config(original, model), indent=1))


def _config(original: Original, model: Any) -> dict[str, Any]:
    artifact, classes = original.artifact, original.artifact.classes
    size = artifact.encoder.image_size
    prepared = {
        "input_size": [artifact.encoder.channels, size, size],
        "interpolation": "bilinear",
        "crop_pct": 224 / 256,
        "crop_mode": "center",
        "mean": artifact.mean,
        "std": artifact.std,
        "num_classes": len(classes),
        **{name: model.pretrained_cfg.get(name) for name in ("first_conv", "classifier")},
    }
    stated = {"architecture": architecture(artifact.encoder), "num_classes": len(classes), "num_features": model.num_features}
    labels = {"label_names": classes} if classes else {}
    return {**stated, **labels, "model_args": timm_arguments(artifact.encoder), "pretrained_cfg": prepared}


def load(folder: Path, outputs: tuple[str, ...]) -> Runtime:
    """The weights in a folder, in the model that its `config.json` describes, as timm runs it."""
    stated = json.loads((folder / CONFIG).read_text())
    model: Any = timm.create_model(stated["architecture"], num_classes=stated["num_classes"], checkpoint_path=str(folder / FILE), **stated["model_args"]).eval()

    def run(images: Images) -> Outputs:
        with torch.inference_mode():
            seen = model.forward_features(torch.from_numpy(images))
            found = {"features": model.forward_head(seen, pre_logits=True), "logits": model.forward_head(seen), "patches": _places(model, seen)}
        return {name: np.asarray(found[name]) for name in outputs}

    return run


def created(original: Original) -> Any:
    """The timm model without its weights."""
    config = original.artifact.encoder
    return timm.create_model(architecture(config), num_classes=len(original.artifact.classes), **timm_arguments(config))


def _places(model: Any, seen: Tensor) -> Tensor:
    """One feature a patch or place, (B, N, width)."""
    if seen.ndim == 3:
        return seen[:, getattr(model, "num_prefix_tokens", 0) :]
    return seen.flatten(1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else seen.flatten(2).transpose(1, 2)
