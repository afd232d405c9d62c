"""Matrix products over many rows that give the same bytes with any number of threads.

A product that a BLAS shares out among its threads may round differently with another number of them, and one bit decides which of
two equally near points is nearer. Here work is cut into blocks whose size is fixed, each block has one BLAS thread, and it is the
blocks that run in parallel.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

BLOCK = 2048
"""Rows, and columns, of a product that is held at a time."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What a function gives for each item, in order: on as many threads as OpenMP has, with one BLAS thread each."""
    threads = faiss.omp_get_max_threads()
    with threadpool_limits(1), ThreadPoolExecutor(threads) as executor:
        yield from executor.map(function, items)


def slices(count: int, size: int = BLOCK) -> list[slice]:
    """Of `count` rows, in order, at most `size` each."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def half_norms(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half of each row's squared length, (N,)."""
    found: NDArray[np.float32] = np.einsum("nd,nd->n", points, points) / 2
    return found


def nearest(points: NDArray[np.float32], targets: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """For each point the nearest target, the first of equally near ones, and its squared distance; (N,) each."""
    found, squared = np.zeros(len(points), np.int32), np.empty(len(points), np.float32)
    halves = half_norms(targets)

    def block(rows: slice) -> None:
        x = points[rows]
        best = np.full(len(x), -np.inf, np.float32)
        for columns in slices(len(targets)):
            likeness = x @ targets[columns].T - halves[columns]
            here = likeness.argmax(1)
            value = np.take_along_axis(likeness, here[:, None], 1)[:, 0]
            better = value > best
            best[better] = value[better]
            found[rows][better] = here[better] + columns.start
        squared[rows] = np.maximum(2 * (half_norms(x) - best), 0)

    for _ in each(block, slices(len(points))):
        pass
    return found, squared


def neighbours(targets: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each target the `count` nearest ones, itself among them, nearest first, and their squared distances; (K, count) each."""
    halves = half_norms(targets)

    def block(rows: slice) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        likeness = targets[rows] @ targets.T - halves
        some = np.sort(np.argpartition(-likeness, count - 1, axis=1)[:, :count], axis=1)
        values = np.take_along_axis(likeness, some, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        far = 2 * (halves[rows, None] - np.take_along_axis(values, order, 1))
        return np.take_along_axis(some, order, 1), np.maximum(far, 0)

    found = list(each(block, slices(len(targets), BLOCK // 8)))
    return np.concatenate([near for near, _ in found]), np.concatenate([squared for _, squared in found])
