"""`torch_export`: an archive that any PyTorch loads without this package or timm. https://docs.pytorch.org/docs/stable/export.html"""

import io
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from ssl_tasks.export.original import Original
from ssl_tasks.export.runtime import Images, Outputs, Runtime

FILE = "model.pt2"


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
    """The graph of a checkpoint. Traced on the largest images where any will do: on a map of one place an exporter takes its sides for constants."""
    axes, size = ((0, 2, 3), original.sizes[-1]) if any_size else ((0,), original.sizes[0])
    return torch.export.export(original.traceable(), (original.example(3, size),), dynamic_shapes=(dict.fromkeys(axes, Dim.AUTO),))
