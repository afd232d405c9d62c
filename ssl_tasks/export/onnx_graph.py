"""`onnx`: a graph for onnxruntime and whatever else reads ONNX. https://onnx.ai"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from schemas.errors import UserError
from ssl_tasks.export.original import Original
from ssl_tasks.export.runtime import Images, Outputs, Runtime
from ssl_tasks.export.torch_archive import traced

FILE = "model.onnx"
INPUT = "images"
_ONLY_FATAL = 4


def refusal(_original: Original) -> str:
    """Why a checkpoint cannot be in this format; empty where it can.

    Raises:
        UserError: where what writes or checks it is not installed.
    """
    try:
        for tool in ("onnx", "onnxruntime", "onnxscript"):
            import_module(tool)
    except ImportError as error:
        raise UserError(
            f"format onnx needs {error.name}, of the extra `export`: pip install -e '.[export]' in the repository, or leave onnx out of the formats"
        ) from error
    return ""


def write(original: Original, folder: Path, any_size: bool) -> None:
    """Write `model.onnx`, for batches of any size, and for images of any where `any_size`; weights beyond 2 GB lie beside it."""
    with _quiet():
        program = torch.onnx.export(traced(original, any_size), (), input_names=[INPUT], output_names=original.outputs, dynamo=True, verbose=False)
    assert program is not None
    program.save(folder / FILE)


def load(folder: Path, outputs: tuple[str, ...]) -> Runtime:
    """The graph in a folder as onnxruntime runs it, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ONLY_FATAL
    session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> Outputs:
        return dict(zip(outputs, map(np.asarray, session.run(list(outputs), {INPUT: images})), strict=True))

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter thinks aloud, in three ways."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
