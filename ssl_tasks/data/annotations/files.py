"""Reading annotation files and folders; every fault in a line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from schemas.errors import UserError
from ssl_tasks.data.annotations.pictures import Pictures, tidy
from ssl_tasks.data.images import FORMATS

_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
"""Of pictures whose pixels are numbers: of two levels, grey, indexed, 16 bits."""


def below(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of some kinds in a folder and its folders, by their paths below it without ending.

    Raises:
        UserError: where there is no such folder, or none of these files in it.
    """
    if not folder.is_dir():
        raise UserError(f"no folder of annotations {folder}; the path is relative to the workspace")
    found: dict[str, Path] = {}
    for path in _files(folder, suffixes):
        name = tidy(str(path.relative_to(folder).with_suffix("")))
        if (other := found.setdefault(name, path)) != path:
            raise UserError(f"{other} and {path} are both of image '{name}': leave one")
    if not found:
        raise UserError(f"{folder} holds no {', '.join(suffixes)} file")
    return found


def numbers(path: Path, pictures: Pictures, row: int) -> NDArray[np.int64]:
    """The numbers in an image file, (H, W): an indexed picture gives indices, not colours.

    Raises:
        UserError: where it cannot be read, has colours, or is of another size than the image of the row.
    """
    values = indices(path)
    check_size((values.shape[0], values.shape[1]), path, pictures, row)
    return values


def indices(path: Path) -> NDArray[np.int64]:
    """The numbers in an image file of any size, (H, W). Raises UserError where it cannot be read, or has colours."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            mode, values = image.mode, np.asarray(image)
    except Exception as error:
        raise UserError(f"cannot read {path} ({reason(error)})") from error
    if mode not in _MODES or values.ndim != 2:
        raise UserError(f"{path} has colours ({mode}): a mask is an indexed or grey picture, whose pixels are numbers")
    return values.astype(np.int64)


def check_size(size: tuple[int, int], where: Path | str, pictures: Pictures, row: int) -> None:
    """Refuse an annotation of another height and width than its image."""
    if size != (own := pictures.size(row)):
        raise UserError(f"{where} is {size[1]} x {size[0]} pixels, but its image {pictures.place(row)} {own[1]} x {own[0]}: make them the same")


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file())


def reason(error: Exception) -> str:
    """Why something cannot be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")
