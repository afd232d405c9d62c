"""Near duplicates at scale: time, peak memory, share of planted pairs found and false merges, one process a size.

The vectors are made as embeddings lie: clusters of unlike size and density on a common background, in fewer directions than they
have dimensions. Of 10% of them there is a near duplicate, at a cosine from the threshold to 1; of another 10% a near miss, at a
cosine below it that no chain of others makes up for. What is merged is compared with what was planted:
`python benchmarks/deduplicate.py --sizes 100000 300000 1000000 --out benchmarks/deduplicate.json`.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_tasks.curate.components import components_of, lowest_cosines, members
from ssl_tasks.curate.neighbours import near

THRESHOLD = 0.9
PLANTED = 0.1
"""Share of the vectors that are near duplicates of others; as many are near misses."""


def pool(count: int, dim: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors (N, dim) in a random order, and the planted pairs (P, 2) among them."""
    random = np.random.default_rng(seed)
    planted = int(count * PLANTED)
    base = count - 2 * planted
    clusters = max(10, base // 500)
    centres = random.normal(size=(clusters, dim)).astype(np.float32) * np.linspace(1, 0.1, dim, dtype=np.float32)
    density = random.uniform(0.5, 1.2, clusters).astype(np.float32)
    spread = np.linalg.norm(centres, axis=1).mean() / dim**0.5
    weights = random.pareto(1.2, clusters) + 0.1
    vectors = np.empty((count, dim), np.float32)
    for start in range(0, base, 50_000):
        rows = slice(start, min(start + 50_000, base))
        of = random.choice(clusters, rows.stop - start, p=weights / weights.sum())
        vectors[rows] = centres[of] + random.standard_normal((len(of), dim), np.float32) * (density[of] * spread)[:, None]
        vectors[rows] /= np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    for start in range(0, 2 * planted, 50_000):
        rows = np.arange(start, min(start + 50_000, 2 * planted))
        cosines = np.where(rows < planted, random.uniform(THRESHOLD, 1, len(rows)), random.uniform(THRESHOLD - 0.1, THRESHOLD - 1e-3, len(rows)))
        source = vectors[rows]  # each of another vector: no chains
        side = random.standard_normal((len(rows), dim), np.float32)
        side -= (side * source).sum(1, keepdims=True) * source
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        made = cosines[:, None] * source + np.sqrt(1 - cosines[:, None] ** 2) * side
        vectors[base + rows] = made / np.linalg.norm(made, axis=1, keepdims=True)
    order = random.permutation(count)
    place = np.argsort(order)
    pairs = np.stack([place[:planted], place[base : base + planted]], axis=1)
    permute(vectors, order)
    return vectors, pairs


def permute(vectors: NDArray[np.float32], order: NDArray[np.int64]) -> None:
    """Put `vectors[order]` into `vectors`, a few columns at a time: a whole copy would count as memory of the search."""
    for start in range(0, vectors.shape[1], 16):
        vectors[:, start : start + 16] = vectors[order, start : start + 16]


def measured(count: int, dim: int, index: Any, seed: int) -> dict[str, Any]:
    """One size, in this process."""
    vectors, pairs = pool(count, dim, seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = near(vectors, THRESHOLD, 64, index, seed)
    searched = time.perf_counter() - started
    component = components_of(found, count)
    merged = members(component)
    lowest = lowest_cosines(vectors, merged, seed)
    seconds = time.perf_counter() - started
    wanted = planted_groups(pairs, count)
    cosines = (vectors[pairs[:, 0]].astype(np.float64) * vectors[pairs[:, 1]]).sum(1)
    return {
        "vectors": count, "dim": dim, "index": found.index, "seconds": round(seconds, 1), "seconds_search": round(searched, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2), "input_gib": round(vectors.nbytes / 2**30, 2),
        "peak_before_gib": round(before / 2**20, 2), "planted": len(pairs),
        "found": float((component[pairs[:, 0]] == component[pairs[:, 1]])[cosines >= THRESHOLD].mean()),
        "false_merges": int(sum(len(set(wanted[m])) > 1 for m in merged)), "merged": len(merged),
        "recall_measured": found.recall, "recall_pairs": found.judged, "lowest_cosine": float(lowest.min(initial=1)),
    }  # fmt: skip


def planted_groups(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Of each vector the number of the planted group that it belongs to."""
    group = np.arange(count)
    group[pairs.max(1)] = pairs.min(1)
    return group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--index", choices=["auto", "flat", "ivf", "hnsw", "ivfpq"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measured(given.sizes[0], given.dim, given.index, given.seed)))
        return
    rows = []
    for size in given.sizes:
        options = ["--sizes", str(size), "--dim", str(given.dim), "--index", given.index, "--seed", str(given.seed), "--here"]
        done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1], file=sys.stderr)
    from common import finish, machine  # torch comes with it: not in the process that is measured

    finish({"machine": machine(), "threshold": THRESHOLD, "rows": rows}, given.out)


if __name__ == "__main__":
    main()
