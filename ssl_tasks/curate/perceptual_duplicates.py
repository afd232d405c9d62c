"""Keep one image of each component of images whose perceptual hashes are alike: no network needed.

The hashes are those of `measures.py`; images whose hashes differ in at most `distance` of their 64 bits are joined, and joins
chain. The search is exact. Two hashes within d bits agree wholly on one of any d + 1 bands of bits (Manku et al., Detecting
near-duplicates for web crawling, 2007, https://doi.org/10.1145/1242572.1242592), so only hashes that are equal on a band are
compared; within a crowded band the other bits are cut into bands again wherever that saves comparisons. Equal hashes count
once, and small distances are joined first, so that a crowd of nearly equal pictures, such as logos on white, is one component
before it could be compared with itself.

Beyond about 10 bits bands are too narrow to help and all hashes are compared: 300 times the work at 1 million images.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.curation import PerceptualDuplicates
from ssl_tasks.curate.decisions import NOBODY, Decisions, representatives
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import column

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
BITS = 64
BLOCK = 1 << 18
"""Pairs that are compared at a time."""
CROWD = 32
"""Rows of equal band above which they are compared as a group of their own; that costs as much as `OVERHEAD` comparisons."""
OVERHEAD = 100_000
EXACT = 4096
"""Hashes of a component up to which its diameter is that of all pairs."""


def perceptual_duplicates(pool: Pool, config: PerceptualDuplicates) -> Decisions:
    """Keep of each component the image of most pixels, then the sharpest, then of lowest id."""
    seen = pool.pictures()
    hashes = column(seen, config.hash).astype(np.uint64)
    components = component_of(hashes, config.distance)
    area = column(seen, "width").astype(np.int64) * column(seen, "height")
    stands = representatives(components, -area, -column(seen, "sharpness"))
    removed = stands != np.arange(len(stands))
    sizes = np.bincount(components, minlength=1)
    largest = hashes[components == sizes.argmax()]
    metrics = {"components": int((sizes > 1).sum()), "largest_component": int(sizes.max()), "largest_component_bits": diameter(largest)}
    said = {"component": components, "hash": [f"{value:016x}" for value in hashes.tolist()]}
    return Decisions(removed, "alike by hash", np.where(removed, pool.ids[stands], NOBODY), said=said, metrics=metrics)


def component_of(hashes: Hashes, distance: int) -> NDArray[np.int32]:
    """Of each hash (N,) its component, numbered by their first rows; those within `distance` bits are joined, and joins chain."""
    unlike, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    components = Components(len(unlike))
    for radius in [*(small for small in (1, 2, 4, 8) if 2 * small <= distance), distance]:
        join(unlike, np.arange(len(unlike)), np.arange(BITS, dtype=np.uint64), radius, components)
        components.merge()
    earliest = np.full(len(unlike), len(hashes))
    np.minimum.at(earliest, components.labels, first)
    found: NDArray[np.int32] = np.unique(earliest[components.labels][which], return_inverse=True)[1].astype(np.int32)
    return found


class Components:
    """Which rows are known to hang together.

    Attributes:
        labels: (N,), equal for rows that do.
    """

    def __init__(self, count: int) -> None:
        self.labels: Rows = np.arange(count)
        self.pairs: list[Rows] = []
        self.waiting = 0

    def add(self, these: Rows, those: Rows) -> None:
        """Join rows with rows; told in `labels` now or, at the latest, by `merge`."""
        if not len(these):
            return
        ends = np.stack([self.labels[these], self.labels[those]])
        self.pairs.append(np.unique(ends[:, ends[0] != ends[1]], axis=1))
        self.waiting += self.pairs[-1].shape[1]
        if self.waiting > len(self.labels):
            self.merge()

    def merge(self) -> None:
        """Let the labels tell of all that was joined."""
        if self.waiting:
            these, those = np.concatenate(self.pairs, axis=1)
            graph = coo_array((np.ones(len(these), bool), (these, those)), shape=(len(self.labels),) * 2)
            self.labels = connected_components(graph, directed=False)[1].astype(np.int64)[self.labels]
        self.pairs, self.waiting = [], 0


def join(hashes: Hashes, rows: Rows, bits: Hashes, radius: int, components: Components) -> None:
    """Join all rows that differ in at most `radius` of `bits`; in the other bits they are known to be equal."""
    all_pairs = len(rows) ** 2 // 2
    if all_pairs < 10 * OVERHEAD:
        compare(hashes, rows, radius, components)
        return
    set_in = np.array([np.count_nonzero(hashes[rows] & (np.uint64(1) << bit)) for bit in bits])
    balance = np.minimum(set_in, len(rows) - set_in)
    bits = bits[np.argsort(-balance, kind="stable")][: np.count_nonzero(balance)]
    if len(bits) <= radius:
        components.add(rows[:-1], rows[1:])
        return
    bands = [bits[first :: radius + 1] for first in range(radius + 1)]  # each as telling as the next
    keys = [hashes[rows] & np.bitwise_or.reduce(np.uint64(1) << band) for band in bands]
    crowds = (np.unique(key, return_counts=True)[1] for key in keys)
    if all_pairs <= sum(int((sizes * sizes // 2 + OVERHEAD * (sizes > CROWD)).sum()) for sizes in crowds):
        compare(hashes, rows, radius, components)
        return
    for band, key in zip(bands, keys, strict=True):
        order = np.argsort(key, kind="stable")
        of_band, sorted_keys = rows[order], key[order]
        starts = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
        sizes = np.diff(np.r_[starts, len(rows)])
        few = of_band[np.repeat(sizes <= CROWD, sizes)]
        group = np.repeat(np.arange(len(sizes)), sizes)[np.repeat(sizes <= CROWD, sizes)]
        for shift in range(1, CROWD):
            near = np.flatnonzero(group[shift:] == group[:-shift])
            if not len(near):
                break
            near = near[np.bitwise_count(hashes[few[near]] ^ hashes[few[near + shift]]) <= radius]
            components.add(few[near], few[near + shift])
        for crowd in np.flatnonzero(sizes > CROWD):
            join(hashes, of_band[starts[crowd] : starts[crowd] + sizes[crowd]], np.setdiff1d(bits, band), radius, components)


def compare(hashes: Hashes, rows: Rows, radius: int, components: Components) -> None:
    """Join the rows within `radius`, all pairs of them compared but those of the largest component that is known."""
    _, which, sizes = np.unique(components.labels[rows], return_inverse=True, return_counts=True)
    inside = which == sizes.argmax()
    rows = np.concatenate([rows[~inside], rows[inside]])
    values, outside = hashes[rows], int((~inside).sum())
    step = max(1, BLOCK // len(rows))
    for start in range(0, outside, step):
        differing = np.bitwise_count(np.bitwise_xor.outer(values[start : min(start + step, outside)], values[start:]))
        these, those = np.divmod(np.flatnonzero(differing <= radius), len(rows) - start)
        apart = these != those
        components.add(rows[start + these[apart]], rows[start + those[apart]])


def diameter(hashes: Hashes) -> int:
    """The most bits in which two hashes differ; of more than `EXACT` unlike ones, the most that two sweeps find: at least half of it."""
    unlike = np.unique(hashes)
    if len(unlike) <= EXACT:
        return int(max(np.bitwise_count(unlike ^ each).max() for each in unlike))
    end = unlike[0]
    for _ in range(2):
        differing = np.bitwise_count(unlike ^ end)
        end = unlike[differing.argmax()]
    return int(differing.max())
