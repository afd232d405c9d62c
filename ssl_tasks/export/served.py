"""An exported model as MLflow's pyfunc serves it: pictures go in, features come out. Knows nothing of MLflow.

MLflow finds `_load_pyfunc` by its name. https://mlflow.org/docs/latest/api_reference/python_api/mlflow.pyfunc.html
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from schemas.artifacts import Export, read
from schemas.errors import UserError
from schemas.exports import Format
from ssl_tasks.data.images import Bands, Unreadable, from_array, open_image
from ssl_tasks.export.formats import TOOLS
from ssl_tasks.export.runtime import Outputs
from ssl_tasks.nn.features import prepared

BATCH = 64
FASTEST: tuple[Format, ...] = ("torch_export", "onnx", "timm")
"""Which format is served where there are several: the first of these."""


class Served:
    """An exported model, in the runtime of one of its formats.

    Attributes:
        outputs: what `predict` gives: `features`, and `logits` of a classifier.
    """

    def __init__(self, artifact: Export) -> None:
        self.artifact = artifact
        name = next(name for name in FASTEST if name in artifact.formats)
        self._run = TOOLS[name].load(artifact.path(name), tuple(artifact.outputs))
        self.outputs = [output for output in artifact.outputs if output != "patches"]

    def predict(self, images: Any) -> Outputs:
        """Features (N, dim) and logits (N, classes) of pictures, prepared as in evaluation.

        Args:
            images: uint8 (N, H, W, C) of any height and width; or paths of N files, as a list, an array or a data frame's only column.

        Raises:
            UserError: where they are neither, or one gives no picture.
        """
        pictures = list(_pictures(images))
        batches = [self._batch(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in self.outputs}

    def _batch(self, pictures: Sequence[tuple[str, Image.Image | Bands]]) -> Outputs:
        return self._run(torch.cat([self._prepared(*each) for each in pictures]).numpy())

    def _prepared(self, name: str, picture: Image.Image | Bands) -> Tensor:
        config = self.artifact.encoder
        try:
            return prepared(picture, config.channels, config.image_size, self.artifact.mean, self.artifact.std)
        except Unreadable as error:
            raise UserError(f"{name} gives no picture: {error.reason}") from error


def _load_pyfunc(path: str) -> Served:
    artifact = read(Path(path))
    assert isinstance(artifact, Export)
    return Served(artifact)


def _pictures(images: Any) -> Iterator[tuple[str, Image.Image | Bands]]:
    """Pictures, each with what it is called."""
    array: NDArray[Any] = np.atleast_1d(np.asarray(images))
    if not array.size:
        raise UserError("there are no images")
    if array.dtype == np.uint8 and array.ndim == 4:
        yield from ((f"image {i}", from_array(each)) for i, each in enumerate(array))
    elif array.dtype.kind in "OU" and all(isinstance(each, str | Path) for each in array.flat):
        yield from ((str(each), _opened(Path(each))) for each in array.flat)
    else:
        raise UserError(f"images are uint8 (N, H, W, C) or paths of files, not {array.dtype} {array.shape}")


def _opened(path: Path) -> Image.Image | Bands:
    try:
        return open_image(path)
    except Unreadable as error:
        raise UserError(f"{path} gives no picture: {error.reason}") from error
