"""TeacherCache: what a frozen teacher said, on disk, so that the next student of the same images, views and seed costs no teacher forward.

Images and views of a step follow from (seed, step), and the teacher never changes. So what it says of a batch follows from its weights,
the choice of images, the views, the seed, the batch size and the step's number: all but the last name a folder, and each step is one file
in it. A longer training begins with the steps of a shorter one and finds them there. Outputs are kept apart within a file: a student that
wants less reads less, and what one wants more is added.

What is kept is float16. It is also what students get when it is computed, so that a training is the same with a full cache and with an
empty one, bit for bit; against one without cache it is rounded. Values beyond float16's range become the largest that it has.

The size is bounded over all that the workspace keeps. A cache in use, which a lock tells, is never removed by another training; where
room is needed, others go, those that were used longest ago first. What does not fit is computed each time.
"""

import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_tasks import distributed
from ssl_tasks.distill.network import Seen

FOLDER, LOCK = "teacher", "in_use"
TAP = "taps/"
LARGEST = torch.finfo(torch.float16).max
COUNTED_EVERY = 0.05
"""Share of the bound that is written before everything is counted again: other trainings write too."""


class TeacherCache:
    """Attributes: `read` and `made`, steps that were found and that had to be computed."""

    def __init__(self, cache: Path, identity: Mapping[str, Any], gigabytes: float, device: torch.device, note: Callable[[str], None]) -> None:
        """Open the cache of one teacher, one choice of images and one way to make views.

        Args:
            cache: the workspace's.
            identity: everything but the step that outputs follow from, as JSON.
            note: tells a line to the person who watches.
        """
        self.root, self.device, self._note = cache / FOLDER, device, note
        self.folder = self.root / hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:32]
        self.limit = gigabytes * 1e9
        self.read = self.made = 0
        self._full = False
        self._lock = self._locked()
        self._size, self._since = _size(self.root), 0

    def __call__(self, batch: str, wanted: frozenset[str], compute: Callable[[], Seen]) -> Seen:
        """What the teacher says of a batch: as it is kept, or computed.

        Args:
            batch: a name that no other batch has.
            wanted: names of outputs, see `named`.
        """
        path = self.folder / f"{batch}.npz"
        found = _loaded(path, wanted)
        if found is None:
            self.made += 1
            found = {name: _halved(value) for name, value in named(compute()).items()}
            self._keep(path, found)
        else:
            self.read += 1
        return _seen({name: torch.from_numpy(value).to(self.device).float() for name, value in found.items() if name in wanted})

    def facts(self, name: str, make: Callable[[], Any]) -> Any:
        """What is known of the teacher besides, as JSON: kept, or made."""
        path = self.folder / f"{name}.json"
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            value = make()
            self._written(path, lambda file: file.write(json.dumps(value).encode()))
            return value

    def close(self) -> None:
        """Let others remove it, and say what it was good for."""
        self._lock.close()
        self._note(f"teacher cache: {self.read} of {self.read + self.made} batches were kept from before, {_size(self.folder) / 1e9:.2f} GB are kept now")

    def _keep(self, path: Path, found: dict[str, NDArray[np.float16]]) -> None:
        if self._full:
            return
        before = _loaded(path) or {}
        taken = path.stat().st_size if path.exists() else 0
        kept = before | found
        added = sum(value.nbytes for value in kept.values()) - taken
        if not self._has_room(added):
            self._full = True
            self._note(f"the teacher cache is full, {self.limit / 1e9:g} GB: what is not in it is computed; raise teacher_cache.gigabytes to keep more")
        elif self._written(path, lambda file: np.savez(file, **kept)):  # type: ignore[arg-type]  # names are the outputs', none is an option's
            self._since += path.stat().st_size - taken

    def _has_room(self, added: int) -> bool:
        """Whether so many bytes more are within the bound, after what nobody uses was removed. Every rank is taken to write as much."""
        ranks = distributed.world_size()
        if self._size + (self._since + added) * ranks > self.limit or self._since * ranks > COUNTED_EVERY * self.limit:
            self._size, self._since = _size(self.root), 0
        while self._size + added * ranks > self.limit:
            if not self._remove_oldest():
                return False
            self._size = _size(self.root)
        return True

    def _remove_oldest(self) -> bool:
        """Remove the cache that was opened longest ago of those that are not in use; False where there is none."""
        others = [path for path in self.root.iterdir() if path.is_dir() and path != self.folder]
        for folder in sorted(others, key=lambda path: _stat(path / LOCK, "st_mtime")):
            try:
                with (folder / LOCK).open("a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                    return True
            except OSError:  # it is in use, or another training removed it meanwhile
                continue
        return False

    def _locked(self) -> IO[bytes]:
        """The lock on the folder, which others who use it have too; whoever removes the folder must have it alone."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / LOCK
            try:
                lock = path.open("ab")
                fcntl.flock(lock, fcntl.LOCK_SH)
                if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                    os.utime(path)
                    return lock
            except FileNotFoundError:
                pass  # it was just removed

    def _written(self, path: Path, write: Callable[[IO[bytes]], Any]) -> bool:
        """Write a file whole or not at all; a disk that takes no more ends the keeping, not the training."""
        partial = path.with_name(f"{path.name}.{distributed.rank()}-{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                write(file)
            partial.rename(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            self._full = True
            self._note(f"the teacher cache cannot be written ({error.strerror}): what is not in it is computed")
            return False
        return True


def named(seen: Seen) -> dict[str, Tensor]:
    """What a teacher says, by the names of outputs: `pooled`, `places`, `logits`, and `taps/PATH` of inner layers."""
    outputs = {"pooled": seen.pooled, "places": seen.places, "logits": seen.logits} | {TAP + path: value for path, value in seen.taps.items()}
    return {name: value for name, value in outputs.items() if value is not None}


def _seen(outputs: Mapping[str, Tensor]) -> Seen:
    taps = {name.removeprefix(TAP): value for name, value in outputs.items() if name.startswith(TAP)}
    return Seen(outputs["pooled"], outputs.get("places"), taps, outputs.get("logits"))


def _halved(value: Tensor) -> NDArray[np.float16]:
    halved: NDArray[np.float16] = value.detach().float().clamp(-LARGEST, LARGEST).half().cpu().numpy()
    return halved


def _loaded(path: Path, wanted: frozenset[str] | None = None) -> dict[str, NDArray[np.float16]] | None:
    """Outputs in a file, all of them where none are named; None where one is missing or damaged. An archive's checksums are looked at as it is read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in wanted or archive.files}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(int(_stat(Path(place, name), "st_size")) for place, _, names in os.walk(folder) for name in names)


def _stat(path: Path, field: str) -> float:
    """A number that the file system has of a file; 0 where the file was removed meanwhile."""
    try:
        return float(getattr(path.stat(), field))
    except OSError:
        return 0.0
