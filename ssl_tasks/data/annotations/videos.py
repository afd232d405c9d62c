"""Videos with a mask of every object: frames and masks in folders, as DAVIS has them (https://arxiv.org/abs/1704.00675), or drawn in code."""

from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.annotations import Drawn, VideoAnnotations
from schemas.annotations import Videos as VideosConfig
from schemas.errors import UserError
from ssl_tasks.data import moving, store
from ssl_tasks.data.annotations.files import indices
from ssl_tasks.data.folder import SUFFIXES
from ssl_tasks.data.images import Bands, Unreadable, from_array, open_image

VOID = 255
"""Value of pixels that count for nothing."""

_WORLD, _COUNT, _FRAMES, _SIDE = 0, 8, 8, 96
"""Of the drawn videos: the same for every evaluation, so that their numbers can be compared."""


class Video(Protocol):
    """A video whose frames and masks are read one at a time."""

    name: str

    def __len__(self) -> int:
        """How many frames it has."""

    def frame(self, number: int, channels: int) -> NDArray[np.uint8]:
        """A frame as an encoder of so many channels takes it, (C, H, W). Raises UserError where it cannot be read."""

    def mask(self, number: int) -> NDArray[np.int64] | None:
        """Which object each pixel of a frame is of, (H, W): 0 for none, or VOID; None where the frame has no mask.

        Raises:
            UserError: where it cannot be read, or is of another size than its frame.
        """


def videos(config: VideoAnnotations, workspace: Path) -> list[Video]:
    """The videos that a config names, in the order of their names; of folders those that there are masks of.

    Raises:
        UserError: where there are none, or one lacks frames or the mask of its first frame.
    """
    if isinstance(config, Drawn):
        return [_DrawnVideo(number) for number in range(_COUNT)]
    assert isinstance(config, VideosConfig)
    frames, masks = workspace / config.frames, workspace / config.masks
    for folder in (frames, masks):
        if not folder.is_dir():
            raise UserError(f"no folder of videos {folder}; the path is relative to the workspace")
    names = sorted(path.name for path in masks.iterdir() if path.is_dir())
    if not names:
        raise UserError(f"{masks} holds no folder of masks; it needs one a video, each with a mask a frame")
    return [_FolderVideo(frames / name, masks / name) for name in names]


class _FolderVideo:
    def __init__(self, frames: Path, masks: Path) -> None:
        self.name = frames.name
        self._frames = _images(frames)
        if not self._frames:
            raise UserError(f"video folder {frames} has no frames; put one image a frame there, or remove {masks}")
        known = {path.stem: path for path in _images(masks)}
        if unknown := sorted(known.keys() - {path.stem for path in self._frames}):
            raise UserError(f"{known[unknown[0]]} is of no frame in {frames}, as are {len(unknown) - 1} others: a mask has the name of its frame")
        self._masks = [known.get(path.stem) for path in self._frames]
        if self._masks[0] is None:
            raise UserError(f"{masks} has no mask of the first frame, {self._frames[0].name}: masks are carried on from it")

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, number: int, channels: int) -> NDArray[np.uint8]:
        return store.of_channels(self._open(number), channels, str(self._frames[number]), Path())

    def mask(self, number: int) -> NDArray[np.int64] | None:
        if (path := self._masks[number]) is None:
            return None
        values = indices(path)
        (height, width), own = values.shape, self._open(number).size
        if (width, height) != own:
            raise UserError(f"{path} is {width} x {height} pixels, but its frame {self._frames[number]} {own[0]} x {own[1]}: make them the same")
        return values

    def _open(self, number: int) -> Image.Image | Bands:
        try:
            return open_image(self._frames[number])
        except Unreadable as error:
            raise UserError(f"frame {self._frames[number]} cannot be decoded ({error.reason}): replace it") from error


class _DrawnVideo:
    def __init__(self, number: int) -> None:
        self.name = f"drawn {number}"
        self._drawn = _drawn(number)

    def __len__(self) -> int:
        return len(self._drawn.frames)

    def frame(self, number: int, channels: int) -> NDArray[np.uint8]:
        return store.of_channels(from_array(self._drawn.frames[number]), channels, self.name, Path())

    def mask(self, number: int) -> NDArray[np.int64]:
        mask: NDArray[np.int64] = self._drawn.masks[number].astype(np.int64)
        return mask


@cache
def _drawn(number: int) -> moving.DrawnVideo:
    return moving.video(_WORLD, number, _SIDE, _FRAMES)


def _images(folder: Path) -> list[Path]:
    """Images in a folder in the order of their names; none where there is no such folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
