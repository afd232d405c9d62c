"""What every format is once it is loaded, in whatever runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ssl_tasks.export.original import Original

Images = NDArray[np.float32]
"""(B, C, H, W), normalised."""
Outputs = dict[str, NDArray[np.float32]]
"""What comes out, by its name."""
Runtime = Callable[[Images], Outputs]


class OwnSizeAlone(Exception):
    """A network that an exporter cannot follow for images of any size; its one line is the reason."""


class Tool(Protocol):
    """A format: the three functions that a module of this package has for it."""

    def refusal(self, original: Original, /) -> str: ...

    def write(self, original: Original, folder: Path, any_size: bool, /) -> None: ...

    def load(self, folder: Path, outputs: tuple[str, ...], /) -> Runtime: ...
