"""Taps: feature maps of layers inside an encoder, by the paths of their modules in timm's model, while a batch goes through it.

Shapes: n images, maps (n, C, H, W).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_map

LAST = "last"
"""Stands for the last layer that timm lists as a feature map of a model: of a ViT its last block, before the norm."""
Outputs = dict[str, list[Any]]
"""What each layer gave, one output a piece in which the batch went through."""


def check(encoder: TimmEncoder, layers: Iterable[str]) -> None:
    """Raises UserError where a path names no module."""
    known = [name for name, _ in encoder.backbone.named_modules() if name]
    for layer in layers:
        if _path(encoder, layer) not in known:
            near = get_close_matches(layer, known, n=4) or [name for name, _ in encoder.backbone.named_children()]
            raise UserError(f"'{encoder.config.name}' has no layer '{layer}'; the nearest are: {', '.join(near)}")


@contextmanager
def looked_at(encoder: TimmEncoder, layers: Iterable[str]) -> Iterator[Outputs]:
    """While it is open, what the layers give is kept."""
    outputs: Outputs = {layer: [] for layer in layers}
    hooks = [
        _end(encoder.backbone.get_submodule(_path(encoder, layer))).register_forward_hook(lambda _module, _inputs, output, kept=kept: kept.append(output))
        for layer, kept in outputs.items()
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def maps(encoder: TimmEncoder, outputs: Outputs, images: Tensor) -> dict[str, Tensor]:
    """The layers' maps of images (n, C, S, S): tokens lose their prefix and take their places in the grid.

    Raises:
        UserError: where a layer gives no map.
    """
    return {layer: _map(encoder, layer, pieces, images) for layer, pieces in outputs.items()}


def _map(encoder: TimmEncoder, layer: str, pieces: list[Any], images: Tensor) -> Tensor:
    where = f"layer '{layer}' of '{encoder.config.name}'"
    if not pieces:
        raise UserError(f"{where} is not called on the way to the features: name another one")
    shapes = {tuple(piece.shape[1:]) if isinstance(piece, Tensor) else type(piece).__name__ for piece in pieces}
    of_one_shape = shapes.pop() if len(shapes) == 1 else "several shapes"
    if isinstance(of_one_shape, tuple) and sum(map(len, pieces)) == len(images):
        output = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        found = _channels_first(encoder, output) if output.ndim == 4 else _untokened(encoder, output, images.shape[-1]) if output.ndim == 3 else None
        if found is not None:
            return found
    raise UserError(f"{where} gives no feature map but, of an image, {of_one_shape}: name one that gives a vector a place, such as a whole stage or block")


def _channels_first(encoder: TimmEncoder, output: Tensor) -> Tensor | None:
    """A map (n, C, H, W) of one, or of (n, H, W, C). Maps are square, as views are; where both may be meant, the model says which."""
    _, *sides = output.shape
    first, last = sides[1] == sides[2], sides[0] == sides[1]
    if first and last:
        last = getattr(encoder.backbone, "output_fmt", "NCHW") == "NHWC"
    return output.permute(0, 3, 1, 2) if last else output if first else None


def _untokened(encoder: TimmEncoder, output: Tensor, size: int) -> Tensor | None:
    """The map of tokens (n, P + N, C) or (n, N, C); None where they fill no grid, or not row by row as Hiera's."""
    count = output.shape[1]
    grids = [encoder.grid(size) ** 2] if encoder.is_vit else [side * side for side in range(1, size + 1)]
    prefixes = [prefix for prefix in (encoder.prefix_tokens, 0) if count - prefix in grids]
    return as_map(output[:, prefixes[0] :]) if prefixes and not hasattr(encoder.backbone, "reroll") else None


def _path(encoder: TimmEncoder, layer: str) -> str:
    """Where the module of a layer is in timm's model."""
    listed = getattr(encoder.backbone, "feature_info", None)
    return str(listed[-1]["module"]) if layer == LAST and listed else layer


def _end(module: nn.Module) -> nn.Module:
    """The module in which a Sequential ends: timm runs the parts of one without calling it where it checkpoints activations."""
    while type(module) is nn.Sequential and len(module):
        module = module[-1]
    return module
