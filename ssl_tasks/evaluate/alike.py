"""Test images that look like train images: near duplicates by perceptual hash, where an evaluation asks for them.

Two images are alike whose pHashes (see `ssl_tasks.data.measures`) differ in at most `DISTANCE` of 64 bits, as in the step `perceptual_duplicates`. It
finds copies that were re-encoded, resized or a little retouched; it does not find crops, for which there is the step `leakage`. Images of one grey
say nothing by their hashes, which are those of noise, and are like no other. Drawings of a few dozen pixels, such as digits, can have one hash
without being copies: what is found among them is to be looked at.

Each image is decoded once and kept by its sha256, with what curations know. Every train image is compared with every test image: 1.5e8
pairs a second on one core, in bounded memory. Of train sets above `MOST` images as many are looked at, drawn by the seed.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssl_tasks.data import measures
from ssl_tasks.data.manifest import column

DISTANCE, MOST = 5, 1_000_000
FLAT = 2.0
"""Contrast, as the standard deviation of grey from 0 to 255, below which a picture is all of one grey."""
_SHARD, _BLOCK = 1024, 1 << 21

Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]


@dataclass
class Alike:
    """Compares train images with the test images of an evaluation.

    Attributes:
        tests: rows of a manifest, with `uri` and `sha256`, in the order of the queries.
        note: told a line where it takes longer.
    """

    workspace: Path
    cache: Path
    tests: pa.Table
    seed: int
    note: Callable[[str], None]
    _hashes: tuple[Hashes, Flags] | None = field(default=None, repr=False)

    def of(self, train: pa.Table) -> tuple[Flags, Flags, bool]:
        """Which train images (N,) look like a test image, which test images (Q,) like a train image, and whether all of the former were looked at."""
        looked = np.arange(len(train))
        if len(train) > MOST:
            looked = np.sort(np.random.default_rng(self.seed).permutation(len(train))[:MOST])
        hashes, told = self._hashed(train.take(pa.array(looked)))
        self._hashes = self._hashes or self._hashed(self.tests)
        others, known = self._hashes
        near, like = alike(hashes[told], others[known], DISTANCE)
        trains, tests = np.zeros(len(train), bool), np.zeros(len(others), bool)
        trains[looked[told]], tests[known] = near, like
        return trains, tests, len(looked) == len(train)

    def _hashed(self, rows: pa.Table) -> tuple[Hashes, Flags]:
        """pHash of each image, and whether it says anything."""
        files = rows.select(["uri", "sha256"]).combine_chunks()
        known, measure = measures.kept(self.cache), measures.Measure(self.workspace)
        missing = known.missing(files["sha256"].combine_chunks())
        if len(missing):
            self.note(f"looks for near duplicates: decodes {len(missing):,} images")
            todo = files.take(pc.index_in(missing, value_set=files["sha256"].combine_chunks()))
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                for made in pool.map(measure, (todo.slice(start, _SHARD) for start in range(0, len(todo), _SHARD))):
                    known.add(made)
            known.compact()
        readable = column(files, "sha256") != ""
        found = known.take(files["sha256"].combine_chunks().filter(pa.array(readable)))
        hashes, told = np.zeros(len(files), np.uint64), np.zeros(len(files), bool)
        hashes[readable] = pc.fill_null(found["phash"], 0).to_numpy()
        told[readable] = pc.fill_null(pc.greater_equal(found["contrast"], FLAT), False).to_numpy(zero_copy_only=False)
        return hashes, told


def alike(first: Hashes, second: Hashes, distance: int) -> tuple[Flags, Flags]:
    """Which of hashes (N,) differ from one of others (M,) in at most `distance` bits, and which of these from one of those."""
    ours, own = np.unique(first, return_inverse=True)
    theirs, their = np.unique(second, return_inverse=True)
    near, like = np.zeros(len(ours), bool), np.zeros(len(theirs), bool)
    step = max(1, _BLOCK // max(1, len(theirs)))
    for start in range(0, len(ours), step):
        close = np.bitwise_count(np.bitwise_xor.outer(ours[start : start + step], theirs)) <= distance
        near[start : start + step] = close.any(1)
        like |= close.any(0)
    return near[own], like[their]
