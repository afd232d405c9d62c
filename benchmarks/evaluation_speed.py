"""Evaluation by neighbours: k-NN against scikit-learn's brute force and faiss flat, and galleries up to a million features. Time and memory.

    python benchmarks/evaluation_speed.py [--train 12500 25000 50000] [--test 10000] [--gallery 100000 300000 1000000] [--queries 1000]
                                          [--rounds 3] [--out benchmarks/evaluation_speed.json]

Features of 384 dimensions in 100 classes that overlap, of any length, in files. `knn`: the 20 nearest train features of every test feature
by cosine, and the share of test features whose class they vote for (exp(cosine / 0.07)); the vote is the same code for all. `same` is the
share of neighbours that are those of scikit-learn. `gallery`: of some queries the 100 nearest features (`neighbours`) and the mean average
precision over a ranking of all of them (`retrieval`).

Each measurement is a process of its own, and methods take turns; seconds are the median of the rounds and begin with features in
files, which lie in the system's cache. `mb` is the memory that the process takes for itself at most, beyond what it had before; ours reads
features from their file a block at a time, the others hold them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIM, CLASSES, K, TEMPERATURE = 384, 100, 20, 0.07
METHODS = ("ours", "sklearn", "faiss")
Features = NDArray[np.float32]
Found = tuple[NDArray[np.floating], NDArray[np.integer]]


def made(path: Path, count: int, seed: int) -> None:
    """Features and classes, written a stretch at a time to `path` and beside it."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, DIM)).astype(np.float32)
    labels = random.integers(CLASSES, size=count)
    np.save(path.with_suffix(".labels.npy"), labels)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIM))
    for start in range(0, count, 65536):
        part = labels[start : start + 65536]
        rows[start : start + 65536] = centres[part] + 4 * random.normal(size=(len(part), DIM)).astype(np.float32)
    rows.flush()


def ours(bank: Path, queries: Path) -> Found:
    from ssl_tasks.evaluate.neighbours import neighbours

    return neighbours(np.load(bank, mmap_mode="r"), np.load(queries, mmap_mode="r"), K)


def by_sklearn(bank: Path, queries: Path) -> Found:
    from sklearn.neighbors import NearestNeighbors

    distances, rows = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(np.load(bank)).kneighbors(np.load(queries))
    return 1 - distances, rows


def by_faiss(bank: Path, queries: Path) -> Found:
    import faiss

    index, x = faiss.IndexFlatIP(DIM), np.load(bank)
    faiss.normalize_L2(x)
    index.add(x)
    del x
    asked = np.load(queries)
    faiss.normalize_L2(asked)
    similarities, rows = index.search(asked, K)
    return similarities, rows


def knn(folder: Path, method: str) -> Callable[[], Found]:
    search = {"ours": ours, "sklearn": by_sklearn, "faiss": by_faiss}[method]
    return lambda: search(folder / "bank.npy", folder / "queries.npy")


def gallery(folder: Path, method: str) -> Callable[[], Any]:
    from ssl_tasks.evaluate.grouping.retrieval import retrieval
    from ssl_tasks.evaluate.neighbours import neighbours

    bank, queries = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("bank", "queries"))
    of, labels = (np.load(folder / f"{name}.labels.npy") for name in ("bank", "queries"))
    if method == "neighbours":
        return lambda: neighbours(bank, queries, 100)
    return lambda: float(retrieval(queries, labels, bank, of, [1]).precisions.mean())


class Memory:
    """The process's own memory in MB, and its peak while this is entered: looked at every few milliseconds."""

    def __enter__(self) -> "Memory":
        self.before = self.peak = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def watch(self) -> None:
        while not self.done.wait(0.003):
            self.peak = max(self.peak, self.now())

    @staticmethod
    def now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measured(part: str, method: str, folder: Path) -> dict[str, Any]:
    """One measurement, in this process."""
    import faiss  # noqa: F401  # its libraries are loaded before memory is looked at
    import sklearn.neighbors  # noqa: F401  # likewise
    import torch  # noqa: F401  # likewise

    from ssl_tasks.evaluate.frozen.knn import vote

    work = (knn if part == "knn" else gallery)(folder, method)
    with Memory() as memory:
        began = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - began
    result = {"seconds": seconds, "mb": memory.peak - memory.before}
    if part == "knn":
        np.save(folder / f"{method}.npy", found[1])
        of, labels = (np.load(folder / f"{name}.labels.npy") for name in ("bank", "queries"))
        result["accuracy"] = float((vote(found[0], of[found[1]], TEMPERATURE) == labels).mean())
    elif method == "retrieval":
        result["map"] = found
    return result


def turns(part: str, methods: tuple[str, ...], sizes: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Every method some rounds, in turn, over features of one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder / "bank.npy", sizes[0], 1)
        made(folder / "queries.npy", sizes[1], 2)
        runs: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
        for _ in range(rounds):
            for method in methods:
                command = [sys.executable, __file__, "--measure", part, method, name]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                runs[method].append(json.loads(done.stdout.splitlines()[-1]))
                print(part, sizes, method, runs[method][-1], file=sys.stderr)
        found = {method: summary(each) for method, each in runs.items()}
        if part == "knn":
            peer = np.load(folder / "sklearn.npy")
            for method in methods:
                rows = np.load(folder / f"{method}.npy")
                found[method]["same"] = round(float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(rows, peer, strict=True)])), 6)
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [run["seconds"] for run in runs]
    told = {"seconds": round(statistics.median(seconds), 2), "all": [round(s, 2) for s in seconds], "mb": round(max(run["mb"] for run in runs))}
    return told | {name: round(value, 5) for name, value in runs[-1].items() if name not in ("seconds", "mb")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, nargs="*", default=[12_500, 25_000, 50_000])
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        part, method, folder = options.measure
        print(json.dumps(measured(part, method, Path(folder))))
        return
    from common import finish, machine

    versions = {name: version(name) for name in ("numpy", "scikit-learn", "faiss-cpu")}
    result: dict[str, Any] = {
        "dim": DIM, "classes": CLASSES, "k": K, "test": options.test, "queries": options.queries, "rounds": options.rounds,
        "machine": machine() | versions, "knn": {}, "gallery": {},
    }  # fmt: skip
    for count in options.train:
        result["knn"][str(count)] = turns("knn", METHODS, (count, options.test), options.rounds)
    for count in options.gallery:
        result["gallery"][str(count)] = turns("gallery", ("neighbours", "retrieval"), (count, options.queries), options.rounds)
    finish(result, options.out)


if __name__ == "__main__":
    main()
