"""Images a second that integrity and hashing take in, against plain Pillow in a loop on the same files.

    python benchmarks/integrity.py [--data FOLDER] [--images 20000] [--cores 2] [--rounds 5] [--out benchmarks/integrity.json]

`plain` is what one would write first: open, load, convert to RGB and hash the pixels, with nothing checked and nothing measured.
`ours` is all that `measures.py` makes of an image: its file's hash compared with the listed one, bombs refused, the picture
upright in 8 bits, its digest, contrast, sharpness and two perceptual hashes. Both run on one core, and ours on the threads of
`--cores` too; in turns, medians of `--rounds`. Without `--data` JPEG files of 256 and of 32 px are drawn.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from common import finish, machine
from PIL import Image

from ssl_tasks.curate.shards import of_each, threads
from ssl_tasks.data.folder import walk
from ssl_tasks.data.known import Known
from ssl_tasks.data.measures import SCHEMA, VERSION, Measure


def drawn(folder: Path, side: int, count: int) -> Path:
    """JPEG files of random smooth pictures."""
    folder.mkdir()
    random = np.random.default_rng(side)
    for number in range(count):
        grid = random.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
        Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return folder


def plain(paths: list[Path]) -> None:
    """Open, load, convert, hash."""
    for path in paths:
        with Image.open(path) as image:
            hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def compare(folder: Path, count: int, cores: int, rounds: int) -> dict[str, Any]:
    """Images a second, of each."""
    paths = walk(folder)[:count]
    files = pa.table({"uri": [path.name if path.parent == folder else str(path.relative_to(folder)) for path in paths]})
    files = files.append_column("sha256", pa.array([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]))
    measure, all_cores = Measure(folder), sorted(os.sched_getaffinity(0))

    def shards(number: int) -> None:
        os.sched_setaffinity(0, all_cores[:number])
        try:
            with tempfile.TemporaryDirectory() as cache:
                of_each(files, measure, Known(Path(cache) / f"measures-{VERSION}", SCHEMA), threads, lambda _done, _of: None)
        finally:
            os.sched_setaffinity(0, all_cores)

    runs: dict[str, Callable[[], None]] = {
        "plain Pillow, 1 core": lambda: plain(paths),
        "ours, 1 core": lambda: shards(1),
        f"ours, {cores} cores": lambda: shards(cores),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if round_:  # the first one fills the page cache
                rates[name].append(len(paths) / (time.perf_counter() - began))
    each = {name: median(values) for name, values in rates.items()}
    first = each["plain Pillow, 1 core"]
    return {
        "images": len(paths),
        "images_per_second": {name: round(value) for name, value in each.items()},
        "times_plain": {name: round(value / first, 2) for name, value in each.items()},
        "runs": {name: [round(value) for value in values] for name, values in rates.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images; drawn ones where not given")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"files": arguments.data} if arguments.data else {}
        for side, share in () if folders else ((256, 4), (32, 1)):
            folders[f"JPEG of {side} px"] = drawn(Path(scratch) / str(side), side, arguments.images // share)
        cases = {name: compare(folder, arguments.images, arguments.cores, arguments.rounds) for name, folder in folders.items()}
    finish({"machine": machine(), "cases": cases}, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
