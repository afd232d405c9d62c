"""Time, memory, inertia and balance of k-means: ours in two levels, with and without resampling, faiss's, and scikit-learn's in mini-batches.

    python benchmarks/clustering.py [--points 1000000] [--levels 10000 100] [--only ours faiss] [--out benchmarks/clustering.json]

Unit vectors of 384 dimensions around concepts, half as many as clusters of the first level, whose sizes are long-tailed (1/rank) and
which spread in 16 directions more than in the others; concepts lie around themes, half as many as clusters of the last level. Each
method is a process of its own with the same vectors; its peak of resident memory includes them. faiss has its default settings, but
as many iterations as ours; scikit-learn has its default settings.

`inertia` is over all points, to the nearest centroid. `entropy` is that of cluster sizes, 1 where all are equal; `largest` the share of
the largest cluster. `flat` tells of a sample of 1% that takes evenly of the first level's clusters how far its concepts are from equal
shares (Kullback-Leibler divergence to uniform, nats) and how many of them it has at all; `tree` of one that samples the tree; `random`
of one by chance.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("ours", "ours_resampled", "faiss", "minibatch")
DIM, DIRECTIONS, ITERATIONS = 384, 16, 25


def vectors(count: int, concepts: int, themes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Unit vectors (count, 384) and the concept of each."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, concepts + 1)
    of = random.choice(concepts, count, p=weights / weights.sum()).astype(np.int32)
    centres = (0.6 * random.normal(size=(concepts, DIM)) + 0.8 * random.normal(size=(themes, DIM))[random.integers(0, themes, concepts)]) / DIM**0.5
    centres = centres.astype(np.float32)
    spread = random.normal(size=(64, DIRECTIONS, DIM)).astype(np.float32) / DIM**0.5
    made = np.empty((count, DIM), np.float32)
    for start in range(0, count, 65536):
        part = of[start : start + 65536]
        wide = random.normal(size=(len(part), DIRECTIONS)).astype(np.float32) * 0.15
        noise = random.normal(size=(len(part), DIM)).astype(np.float32) * (0.4 / DIM**0.5)
        x = centres[part] + noise
        for kind in range(64):
            rows = np.flatnonzero(part % 64 == kind)
            x[rows] += wide[rows] @ spread[kind]
        made[start : start + len(part)] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return made, of


def clustered(method: str, points: NDArray[np.float32], levels: list[int]) -> tuple[list[NDArray[np.int32]], float]:
    """The cluster of each point at each level, and the sum of squared distances at the first."""
    if method.startswith("ours"):
        from schemas.curation import Resample
        from ssl_tasks.curate.hierarchy import hierarchy, of_images

        made = hierarchy(points, levels, Resample(times=10 if method == "ours_resampled" else 0), 0, ITERATIONS)
        return of_images(made), made[0].inertia
    if method == "faiss":
        import faiss

        means = faiss.Kmeans(DIM, levels[0], niter=ITERATIONS)
        means.train(points)
        squared, nearest = means.index.search(points, 1)
        return [nearest[:, 0].astype(np.int32)], float(squared.sum(dtype=np.float64))
    from sklearn.cluster import MiniBatchKMeans

    batches = MiniBatchKMeans(levels[0], random_state=0, n_init="auto").fit(points)
    return [batches.labels_.astype(np.int32)], float(batches.inertia_)


def evenness(of: NDArray[np.int32], concepts: int) -> dict[str, float]:
    """How far a sample's concepts are from equal shares, in nats, and the share of concepts that it has."""
    shares = np.bincount(of, minlength=concepts) / len(of)
    some = shares[shares > 0]
    return {"divergence": round(float((some * np.log(some * concepts)).sum()), 4), "covered": round(len(some) / concepts, 4)}


def measured(method: str, points: NDArray[np.float32], of: NDArray[np.int32], levels: list[int]) -> dict[str, Any]:
    """One method's figures."""
    from ssl_tasks.curate.balance import leaf_shares
    from ssl_tasks.curate.hierarchy import entropy, ranks

    concepts = int(of.max()) + 1
    began = time.perf_counter()
    members, inertia = clustered(method, points, levels)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    sizes, random = np.bincount(members[0], minlength=levels[0]), np.random.default_rng(1)
    order, keep = random.random(len(points)), len(points) // 100

    def sampled(tree: list[NDArray[np.int32]]) -> dict[str, float]:
        return evenness(of[ranks(tree[0], order) < leaf_shares(tree, keep, random)[tree[0]]], concepts)

    return {
        "seconds": round(seconds, 1),
        "peak_mb": round(int(status.split("VmHWM:")[1].split()[0]) / 1024),
        "inertia": round(inertia, 2),
        "entropy": round(entropy(sizes), 4),
        "largest": round(float(sizes.max() / len(points)), 5),
        "empty": int((sizes == 0).sum()),
        "flat": sampled(members[:1]),
        "tree": sampled(members) if len(members) > 1 else None,
        "random": evenness(of[np.argsort(order)[:keep]], concepts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--levels", type=int, nargs="+", default=[10_000, 100])
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--made", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.made:
        points, of = (np.load(options.made / f"{name}.npy") for name in ("points", "concepts"))
        print(json.dumps(measured(options.only[0], points, of, options.levels)))
        return
    from common import finish, machine

    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        points, of = vectors(options.points, options.levels[0] // 2, max(1, options.levels[-1] // 2))
        np.save(f"{folder}/points.npy", points)
        np.save(f"{folder}/concepts.npy", of)
        del points
        for method in options.only:
            settings = ["--only", method, "--levels", *map(str, options.levels), "--made", folder]
            done = subprocess.run([sys.executable, __file__, *settings], stdout=subprocess.PIPE, text=True, check=True)
            rows[method] = json.loads(done.stdout.splitlines()[-1])
            print(method, rows[method], file=sys.stderr)
    finish({"points": options.points, "dim": DIM, "levels": options.levels, "iterations": ITERATIONS, "machine": machine(), "methods": rows}, options.out)


if __name__ == "__main__":
    main()
