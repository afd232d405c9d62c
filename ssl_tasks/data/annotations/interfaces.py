"""What every source of annotations offers, wherever it has it from."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

VOID = -1
"""Class of a pixel that counts for nothing."""


class Masks(Protocol):
    """The class of every pixel of the images of a table."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes 0, 1, ..."""

    def has(self, row: int) -> bool:
        """Whether an image has a mask."""

    def of(self, row: int) -> NDArray[np.int64]:
        """The class of each pixel of an image, (H, W), or VOID.

        Raises:
            UserError: where it has no mask, one of another size or one that cannot be read, or a class has no name.
        """


class Depths(Protocol):
    """The depth of every pixel of the images of a table."""

    def has(self, row: int) -> bool:
        """Whether the depths of an image are known."""

    def of(self, row: int) -> NDArray[np.float32]:
        """The depth of each pixel of an image in metres, (H, W); 0 where it is unknown.

        Raises:
            UserError: where nothing is known of it, or its depths are of another size or cannot be read.
        """


class Objects(NamedTuple):
    """The objects in one image of H x W pixels."""

    boxes: NDArray[np.float32]
    """(n, 4): left, top, right, bottom in pixels; a box from edge to edge is 0, 0, W, H."""
    labels: NDArray[np.int64]
    """(n,), index of `Boxes.classes`."""
    crowd: NDArray[np.bool_]
    """(n,), whether it stands for several objects, or is too hard: to find it or not counts for nothing."""
    masks: NDArray[np.bool_] | None
    """(n, H, W); None where `Boxes.masked` is false."""


class Boxes(Protocol):
    """The objects in the images of a table."""

    @property
    def classes(self) -> list[str]:
        """Names of the labels; there is none for what is no object."""

    @property
    def masked(self) -> bool:
        """Whether every object has a mask."""

    def has(self, row: int) -> bool:
        """Whether an image is annotated, be it with no object."""

    def of(self, row: int) -> Objects:
        """The objects in an image.

        Raises:
            UserError: where it is not annotated, or its annotation is of another size or damaged.
        """
