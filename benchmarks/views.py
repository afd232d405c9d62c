"""Images a second from JPEG files to augmented views: ours against lightly 1.6.0 on the same cores, run in turns.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install lightly==1.6.0
    python benchmarks/views.py FOLDER --peer-python /tmp/peers/bin/python [--cores 2] [--rounds 5] [--out benchmarks/views.json]

FOLDER holds at least `--images` JPEG files of 32 px, such as CIFAR-10's train split; mosaics of them make files of 256 px. Every
run is one epoch, from files on disk (in the page cache) to batches of float tensors. lightly decodes in as many loader workers as
there are cores, which live on between epochs. Ours lists, hashes and decodes the files in its first epoch, and reads the store
from then on; `files` decodes in every epoch instead, as for a set that is too large to be stored.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import finish, machine
from PIL import Image

from schemas.sources import Folder
from schemas.views import Views
from ssl_tasks.data import manifest, sources
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.files import Files
from ssl_tasks.data.folder import listing
from ssl_tasks.data.loader import Batches, Images
from ssl_tasks.data.memory import keep_freed_memory
from ssl_tasks.data.store import open_store, parallel
from ssl_tasks.data.views import augment
from ssl_tasks.ingest import describe

CASES = {
    "simclr 32": (Views(preset="simclr_cifar"), 32, 32, 256),
    "dino 2x32 + 6x16": (Views(preset="dino", local_count=6, local_size=16), 32, 32, 256),
    "simclr 224": (Views(preset="simclr"), 256, 224, 64),
}
"""Views, side of the files, size of a crop, images a batch."""
EPOCHS = 100
"""Over which the first epoch is spread in `over 100 epochs`."""


class Ours:
    """One case of ours: its epochs, with and without a store."""

    def __init__(self, case: str, folder: Path, cache: Path) -> None:
        self.views, self.side, self.size, self.batch = CASES[case]
        self.folder, self.cache = folder, cache
        self.images: Images | None = None
        self.generator = torch.Generator().manual_seed(0)

    def first(self) -> float:
        """Images a second of an epoch that begins with nothing but files."""
        began = time.perf_counter()
        source = Folder(path=self.folder.name)
        self.table = manifest.build(list(parallel(lambda file: describe(file, source, self.folder.parent), sources.files(source, self.folder.parent))))
        self.images = open_store(self.table, self.folder.parent, self.side, 3, self.cache)
        seen = self._epoch(self.images)
        return seen / (time.perf_counter() - began)

    def steady(self) -> float:
        """Images a second of a later epoch."""
        assert self.images is not None
        return self._timed(self.images)

    def files(self) -> float:
        """Images a second of an epoch that decodes its files."""
        return self._timed(Files(self.table, self.folder.parent, self.side, 3))

    def _timed(self, images: Images) -> float:
        began = time.perf_counter()
        return self._epoch(images) / (time.perf_counter() - began)

    def _epoch(self, images: Images) -> int:
        batches, seen = Batches(images, self.batch, 0, torch.device("cpu")), 0
        for _, batch in batches(0, batches.per_epoch, ahead=False):
            seen += len(augment(self.views, batch, self.size, Draw(self.generator, batches.size))[0])
        return seen


@contextmanager
def lightly(python: Path, folder: Path, case: str, workers: int) -> Iterator[Callable[[], float]]:
    """Images a second of one epoch of lightly's, each time it is called."""
    script = Path(__file__).parent / "peers" / "lightly_views.py"
    command = [str(python), str(script), str(folder), case, str(CASES[case][3]), str(workers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answer = process.stdin, process.stdout

        def epoch() -> float:
            print(file=ask, flush=True)
            return float(answer.readline())

        yield epoch
        ask.close()


def compare(case: str, folder: Path, python: Path, cores: int, rounds: int, cache: Path) -> dict[str, Any]:
    """Medians of images a second, of `rounds` runs of each in turns."""
    ours = Ours(case, folder, cache)
    rates: dict[str, list[float]] = {"first": [], "steady": [], "files": [], "lightly": []}
    with lightly(python, folder, case, cores) as theirs:
        theirs()  # its workers start
        ours.first()
        for _ in range(rounds):
            for stored in cache.glob("store-*"):
                stored.unlink()
            rates["first"].append(ours.first())
            rates["steady"].append(ours.steady())
            rates["lightly"].append(theirs())
            rates["files"].append(ours.files())
    each = {name: median(values) for name, values in rates.items()}
    spread = EPOCHS / (1 / each["first"] + (EPOCHS - 1) / each["steady"])
    return {
        "images_per_second": {
            "ours, first epoch": round(each["first"]),
            "ours, later epochs": round(each["steady"]),
            f"ours, over {EPOCHS} epochs": round(spread),
            "ours, decoding in every epoch": round(each["files"]),
            "lightly": round(each["lightly"]),
        },
        "times_lightly": {
            "first epoch": round(each["first"] / each["lightly"], 1),
            f"over {EPOCHS} epochs": round(spread / each["lightly"], 1),
            "decoding in every epoch": round(each["files"] / each["lightly"], 1),
        },
        "runs": {name: [round(value) for value in values] for name, values in rates.items()},
    }


def mosaics(files: list[Path], folder: Path, count: int) -> Path:
    """`count` JPEG files of 256 px, each of 8 by 8 images, written into `folder`."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        sheet = Image.new("RGB", (256, 256))
        for place, file in enumerate(random.choice(len(files), 64)):
            sheet.paste(Image.open(files[file]), (place % 8 * 32, place // 8 * 32))
        sheet.save(folder / f"{number:05d}.jpg", quality=90)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--large", type=int, default=512, help="images of 256 px")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    torch.set_num_threads(options.cores)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        files = [found.path for found in listing(options.folder)]
        small = Path(scratch) / "small"
        small.mkdir()
        for number in np.random.default_rng(0).permutation(len(files))[: options.images]:
            (small / f"{number:06d}.jpg").write_bytes(files[number].read_bytes())
        large = mosaics(files, Path(scratch) / "large", options.large)
        result = {
            "cases": {
                case: compare(case, small if CASES[case][1] == 32 else large, options.peer_python, options.cores, options.rounds, Path(scratch) / "cache")
                for case in options.case or CASES
            },
            "settings": {"images of 32 px": options.images, "images of 256 px": options.large, "cores": options.cores, "rounds": options.rounds},
            "machine": machine(),
            "lightly": versions(options.peer_python),
        }
    finish(result, options.out)


def versions(python: Path) -> dict[str, str]:
    """Versions of what the peer's environment holds."""
    names = ("lightly", "torch", "torchvision", "pillow")
    script = f"from importlib.metadata import version\nprint(*(version(n) for n in {names}))"
    found = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(names, found, strict=True))


if __name__ == "__main__":
    sys.exit(main())
