"""Features of a folder of images, written to one file: Parquet, or NumPy's NPZ."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.artifacts import Checkpoint
from schemas.errors import UserError
from ssl_tasks.data.folder import walk
from ssl_tasks.data.images import Unreadable, open_image
from ssl_tasks.data.store import parallel
from ssl_tasks.export.original import Original
from ssl_tasks.nn.features import prepared

BATCH = 64


@dataclass
class Embedded:
    """What became of the images of a folder.

    Attributes:
        images: how many were embedded.
        skipped: names of those that give no picture, each with the reason.
    """

    images: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def embed(artifact: Checkpoint, folder: Path, out: Path, patches: bool = False) -> Embedded:
    """Write the features of every image under a folder, in the order of their names.

    The file has the columns, or arrays, `name` (of the file, below the folder), `features` (dim) and, where asked for, `patches` (N, width): one
    feature a patch or place, row by row. Images are prepared as in evaluation; those that give no picture are left out.

    Args:
        out: ends in .parquet, which is written as it goes, or .npz, for which all features are held in memory.

    Raises:
        UserError: where there are no images or none gives a picture, the network has no patches, or the file cannot be written.
    """
    writer = WRITERS.get(out.suffix)
    if writer is None:
        raise UserError(f"--out {out}: its name must end in {' or '.join(WRITERS)}")
    paths = walk(folder, named="FOLDER")
    original = Original(artifact)
    names = ["features", *["patches"] * patches]
    if patches and "patches" not in original.outputs:
        raise UserError(f"--patches: '{artifact.encoder.name}' gives no features of patches or places: leave it out")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    original.to(device)
    told = Embedded()
    with _written(out) as file, contextlib.closing(writer(file)) as table:
        for files, images in _batches(artifact, folder, paths, told):
            with torch.inference_mode():
                found = dict(zip(original.outputs, original(images.to(device)), strict=True))
            table.write(files, {name: found[name].float().cpu().numpy() for name in names})
            told.images += len(files)
        if not told.images:
            raise UserError(f"none of the {len(paths)} images under {folder} gives a picture: {next(iter(told.skipped.values()))}")
    return told


def _batches(artifact: Checkpoint, folder: Path, paths: list[Path], told: Embedded) -> Iterator[tuple[list[str], Tensor]]:
    """Names and prepared images (B, C, S, S) of those that give a picture; the others are told."""
    config = artifact.encoder

    def read(path: Path) -> Tensor | str:
        try:
            return prepared(open_image(path), config.channels, config.image_size, artifact.mean, artifact.std)
        except Unreadable as error:
            return error.reason

    files: list[str] = []
    images: list[Tensor] = []
    for path, image in zip(paths, parallel(read, paths), strict=True):
        name = path.relative_to(folder).as_posix()
        if isinstance(image, str):
            told.skipped[name] = image
            continue
        files.append(name)
        images.append(image)
        if len(files) == BATCH:
            yield files, torch.cat(images)
            files, images = [], []
    if files:
        yield files, torch.cat(images)


@contextlib.contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error}): make room on its disk, or name another file") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


class Table(Protocol):
    """Takes rows and writes them."""

    def write(self, files: list[str], columns: dict[str, NDArray[np.float32]]) -> None:
        """Further rows: names of files, and arrays whose first dimension is theirs."""

    def close(self) -> None:
        """Write what is left."""


class Parquet:
    """Features as lists of fixed size, patches as lists of such lists."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: pq.ParquetWriter | None = None

    def write(self, files: list[str], columns: dict[str, NDArray[np.float32]]) -> None:
        table = pa.table({"name": pa.array(files), **{name: _lists(array) for name, array in columns.items()}})
        self._writer = self._writer or pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer:
            self._writer.close()


class NPZ:
    """An array a column."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._parts: list[dict[str, NDArray[np.generic]]] = []

    def write(self, files: list[str], columns: dict[str, NDArray[np.float32]]) -> None:
        self._parts.append({"name": np.array(files), **columns})

    def close(self) -> None:
        if self._parts:
            columns = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
            np.savez(self._file, allow_pickle=False, **columns)


WRITERS: dict[str, Callable[[IO[bytes]], Table]] = {".parquet": Parquet, ".npz": NPZ}


def _lists(array: NDArray[np.float32]) -> pa.Array:
    """Rows of any dimensions as nested lists of fixed size."""
    lists = pa.array(array.reshape(-1))
    for length in reversed(array.shape[1:]):
        lists = pa.FixedSizeListArray.from_arrays(lists, length)
    return lists
