"""Losses are computed in float32 or better, whatever the models around them run in."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """The loss with autocast off and every half-precision tensor argument turned into float32; float64 stays float64."""

    @wraps(loss)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next(t for t in _tensors([*args, *kwargs.values()]))
        with torch.autocast(first.device.type, enabled=False):
            return loss(*_raised(args), **{name: _raised(value) for name, value in kwargs.items()})

    return guarded


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [t for v in values for t in _tensors(v)] if isinstance(values, (list, tuple)) else []


def _raised(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    return type(value)(map(_raised, value)) if isinstance(value, (list, tuple)) else value
