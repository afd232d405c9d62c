"""Trained weights put into an encoder: from a file of another code base, or from an encoder of another image size.

timm does the work: its models know the key names of DINOv2, DINOv3, MAE, CLIP and others (`checkpoint_filter_fn`), and resample
position and patch embeddings. What does not fit after that is refused.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from timm.models import adapt_input_conv, clean_state_dict, load_state_dict
from torch import Tensor

from schemas.errors import UserError
from ssl_tasks.nn.encoder import TimmEncoder

State = dict[str, Tensor]
HEADS = re.compile(r"(head|fc|classifier|pre_logits|mask_token|decoder\w*|\w+_head|projector|predictor|local_cls_norm)(\.|$)")
"""Parts of a file that are no encoder's: classifiers, projectors, decoders, mask tokens. They are left out."""
_SHOWN = 3


def read_weights(path: Path, key: str = "init_from.file") -> State:
    """The tensors of a file of weights, by their names in it; of a file that holds a teacher and a student, the teacher's backbone.

    Nothing in the file is run: .pth and .pt are read by PyTorch's loader that takes tensors, numbers, text and containers of them.

    Args:
        key: of the config that names the file, for messages.

    Raises:
        UserError: where the file is missing, damaged, or holds no tensors.
    """
    try:
        state: dict[str, Any] = load_state_dict(str(path), weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{key}: {path} does not exist; the path is relative to the workspace") from None
    except Exception as error:  # a damaged file makes zipfile, pickle, torch and safetensors raise a dozen different types
        raise UserError(f"{key}: {path} cannot be read as weights: {str(error).partition('. ')[0].partition(chr(10))[0]}") from error
    for part in ("teacher", "student"):
        if isinstance(state.get(part), Mapping):
            state = clean_state_dict(state[part])
            break
    if any(name.startswith("backbone.") for name in state):
        state = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    # DINOv2 trains its blocks in chunks, `blocks.1.7.`: the second number is the block's.
    tensors = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{key}: {path} holds no tensors at its top, under 'model', 'state_dict', 'teacher' or 'student'; it has {few(state)}")
    return tensors


def initialise(encoder: TimmEncoder, state: State, source: str) -> str:
    """Put trained weights into an encoder.

    Args:
        source: what the weights are called in messages.

    Returns:
        What was done, in a line.

    Raises:
        UserError: where they are of another network.
    """
    fitting, left_out = fitted(encoder, state, source)
    encoder.backbone.load_state_dict(fitting)
    ignored = f"; left out: {few(left_out)}" if left_out else ""
    return f"starts from {source}: {looks_like(state)}{ignored}"


def fitted(encoder: TimmEncoder, state: State, source: str) -> tuple[State, list[str]]:
    """Weights as the encoder's backbone takes them, and the names of those that are no encoder's.

    Position embeddings are resampled to its grid, patch embeddings to its patch, both bicubic; the first layer's channels are
    summed to one or repeated to three.

    Raises:
        UserError: where they are of another network.
    """
    backbone: Any = encoder.backbone
    wanted = backbone.state_dict()
    try:
        given = dict(state) if _shapes(state) == _shapes(wanted) else _converted(backbone, dict(state))
    except (AssertionError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise _misfit(encoder, state, source, [str(error).partition("\n")[0]]) from error
    left_out = [name for name in given if name not in wanted and HEADS.match(name)]
    wrong = [f"{name} is missing" for name in wanted if name not in given]
    wrong += [f"{name} has no place" for name in given if name not in wanted and name not in left_out]
    here, there = _shapes(wanted), _shapes(given)
    wrong += [f"{name} is {there[name]}, not {shape}" for name, shape in here.items() if name in there and there[name] != shape]
    if wrong:
        raise _misfit(encoder, state, source, wrong)
    return {name: given[name] for name in wanted}, left_out


def looks_like(state: State) -> str:
    """What encoder a state dict is of, in a few words, such as `a ViT of width 384, depth 12, patch 14, 4 registers, 3 channels`."""
    first = next((value for name, value in state.items() if value.ndim == 4), None)
    blocks = {match[1] for name in state if (match := re.match(r"blocks\.(\d+)\.", name))}
    if first is None:
        return f"{len(state)} tensors, without a convolution"
    channels = f"{first.shape[1]} channel{'s' * (first.shape[1] > 1)}"
    if not blocks:
        return f"a network of {len(state)} tensors whose first layer has width {first.shape[0]}, kernel {first.shape[-1]}, {channels}"
    registers = next((f"{state[name].shape[1]} registers, " for name in ("register_tokens", "storage_tokens", "reg_token") if name in state), "")
    return f"a ViT of width {first.shape[0]}, depth {len(blocks)}, patch {first.shape[-1]}, {registers}{channels}"


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _converted(backbone: Any, state: State) -> State:
    """The names and shapes that the timm model takes."""
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    made: State = convert(state, backbone) if convert else state
    firsts = backbone.pretrained_cfg.get("first_conv") or ()
    for name in (f"{first}.weight" for first in ([firsts] if isinstance(firsts, str) else firsts)):
        wanted = backbone.get_parameter(name)
        if name in made and made[name].ndim == 4 and made[name].shape[1] != wanted.shape[1]:
            made[name] = adapt_input_conv(wanted.shape[1], made[name], base_chans=made[name].shape[1])
    return made


def _misfit(encoder: TimmEncoder, state: State, source: str, wrong: list[str]) -> UserError:
    own = looks_like(encoder.backbone.state_dict())
    return UserError(
        f"{source} looks like {looks_like(state)}, and '{encoder.config.name}' as configured is {own}: {few(wrong, '; ')}; "
        "make `encoder` the network that it is of"
    )


def few(names: Iterable[str], separator: str = ", ") -> str:
    """The first of some names, and how many more there are."""
    listed = list(names)
    more = f"{separator}and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return separator.join(listed[:_SHOWN]) + more
