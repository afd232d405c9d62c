"""Folders with a mask or a depth image an image."""

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.annotations import DepthFolder, MaskFolder
from schemas.errors import UserError
from ssl_tasks.data.annotations.files import below, check_size, numbers, reason
from ssl_tasks.data.annotations.interfaces import VOID
from ssl_tasks.data.annotations.pictures import Names, Pictures
from ssl_tasks.data.store import parallel

_PICTURES = (".png", ".tif", ".tiff", ".bmp", ".gif")
"""Formats that keep numbers as they are."""


class _Folder:
    """A folder in which an annotation's path ends its image's."""

    def __init__(self, path: str, pictures: Pictures, suffixes: tuple[str, ...]) -> None:
        self.folder, self.pictures = pictures.workspace / path, pictures
        self.files = below(self.folder, suffixes)
        self.names = Names(pictures, self.files, str(self.folder))

    def has(self, row: int) -> bool:
        return self.names.get(row) is not None

    def file(self, row: int) -> Path:
        return self.files[self.names.of(row)]


class FolderMasks(_Folder):
    """Masks of which a pixel's value is its class. Values that are void are no classes."""

    def __init__(self, config: MaskFolder, pictures: Pictures) -> None:
        super().__init__(config.path, pictures, _PICTURES)
        self.config, self.void = config, set(config.void)

    @cached_property
    def classes(self) -> list[str]:
        return [name for value, name in enumerate(self._names) if value not in self.void]

    def of(self, row: int) -> NDArray[np.int64]:
        values = self._values(row)
        if wrong := [v for v in np.unique(values).tolist() if v not in self.void and not 0 <= v < len(self._names)]:
            raise UserError(f"{self.file(row)} has the value {wrong[0]}, but there are {len(self._names)} classes: add to `classes`, or to `void`")
        found: NDArray[np.int64] = self._numbers[values.clip(0, len(self._names))]
        return found

    def _values(self, row: int) -> NDArray[np.int64]:
        return numbers(self.file(row), self.pictures, row)

    @cached_property
    def _names(self) -> list[str]:
        """Of the values 0, 1, ...; up to the highest of any mask where they are not given."""
        if self.config.classes:
            return self.config.classes
        rows = [row for row in range(len(self.pictures)) if self.has(row)]
        highest = max(parallel(lambda row: max(set(np.unique(self._values(row)).tolist()) - self.void, default=VOID), rows), default=VOID)
        return [str(value) for value in range(highest + 1)]

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        """Class of each value; the last is of all that are higher."""
        number = {name: i for i, name in enumerate(value for value in range(len(self._names)) if value not in self.void)}
        return np.array([number.get(value, VOID) for value in range(len(self._names) + 1)])


class FolderDepths(_Folder):
    """Depths as pictures or NumPy files; what is neither finite nor above 0 is unknown."""

    def __init__(self, config: DepthFolder, pictures: Pictures) -> None:
        super().__init__(config.path, pictures, (*_PICTURES, ".npy"))
        self.metre = config.metre

    def of(self, row: int) -> NDArray[np.float32]:
        path = self.file(row)
        values = self._array(path, row) if path.suffix == ".npy" else numbers(path, self.pictures, row).astype(np.float64)
        return np.where(np.isfinite(values) & (values > 0), values / self.metre, 0).astype(np.float32)

    def _array(self, path: Path, row: int) -> NDArray[np.float64]:
        try:
            values = np.load(path, allow_pickle=False)
        except OSError as error:
            raise UserError(f"cannot read {path} ({reason(error)})") from error
        except (ValueError, EOFError) as error:
            raise UserError(f"{path} is no NumPy file of numbers, or was cut short") from error
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise UserError(f"{path} holds {values.dtype} of shape {values.shape}: depths are numbers, (H, W)")
        check_size(values.shape, path, self.pictures, row)
        found: NDArray[np.float64] = values.astype(np.float64)
        return found
