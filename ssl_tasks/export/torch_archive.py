"""`torch_export`: an archive that any PyTorch loads without this package or timm. https://docs.pytorch.org/docs/stable/export.html"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.overrides import TorchFunctionMode

from ssl_tasks.export.original import Original
from ssl_tasks.export.runtime import Images, Outputs, OwnSizeAlone, Runtime

FILE = "model.pt2"
LONGEST = 12
"""Operations in the formula of a map's side for each size of the image that it depends on. Networks that trace in seconds have at most 10; beyond 30 a
layer takes seconds, and each next one longer."""
TOO_LONG = "the sides of its maps depend on the image's in ways that torch.export cannot follow, as where maps are padded to whole windows"


def refusal(_original: Original) -> str:
    """Why a checkpoint cannot be in this format; empty where it can."""
    return ""


def write(original: Original, folder: Path, any_size: bool) -> None:
    """Write `model.pt2`, for batches of any size, and for images of any where `any_size`."""
    archive = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError
    torch.export.save(traced(original, any_size), archive)
    (folder / FILE).write_bytes(archive.getbuffer())


def load(folder: Path, outputs: tuple[str, ...]) -> Runtime:
    """The archive in a folder as PyTorch runs it."""
    module = torch.export.load(folder / FILE).module()

    def run(images: Images) -> Outputs:
        with torch.inference_mode():
            return {name: np.asarray(value) for name, value in zip(outputs, module(torch.from_numpy(images)), strict=True)}

    return run


def traced(original: Original, any_size: bool) -> ExportedProgram:
    """The graph of a checkpoint. Traced on the largest images where any will do: on a map of one place an exporter takes its sides for constants.

    Raises:
        OwnSizeAlone: where images of any size are asked for, and the sides of maps would be formulas that tracing does not come to an end with.
    """
    axes, size = ((0, 2, 3), original.sizes[-1]) if any_size else ((0,), original.sizes[0])
    with _ShortFormulas() if any_size else nullcontext():
        return torch.export.export(original.traceable(), (original.example(3, size),), dynamic_shapes=(dict.fromkeys(axes, Dim.AUTO),))


class _ShortFormulas(TorchFunctionMode):
    """Stops a trace once a side has a long formula: where maps are padded to whole windows or strides, each layer's is longer than the last."""

    def __torch_function__(
        self, function: Callable[..., Any], _types: Sequence[type], arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        found = function(*arguments, **(named or {}))
        if isinstance(found, Tensor) and any(_length(side) > LONGEST for side in found.shape):
            raise OwnSizeAlone(TOO_LONG)
        return found


def _length(side: Any) -> float:
    """Operations in a side's formula for each size that it depends on; 0 of a number."""
    if not isinstance(side, torch.SymInt):
        return 0.0
    formula = side.node.expr
    return float(formula.count_ops()) / max(1, len(formula.free_symbols))
