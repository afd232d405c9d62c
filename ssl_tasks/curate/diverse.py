"""Keep a spread of images by k-center greedy.

Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, 2017, https://arxiv.org/abs/1708.00489.
Each next image is the one farthest from those that are kept; the largest distance of any image to a kept one is then at most twice
that of the best choice of as many images (Gonzalez, 1985).

Distances are brought up to date a block of choices at a time. Between two updates only the farthest points are looked at: a
distance can only shrink, so the farthest of these is the farthest of all for as long as it is farther than any other was. This
costs N * keep * dim products, two flops each: 10,000 of a million images of 384 dimensions take some minutes on two cores.

Differs from the paper: the greedy solution alone, without the mixed-integer program that may improve it; the first image is the
one nearest to the mean.
"""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from schemas.curation import Diverse
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool
from ssl_tasks.curate.products import each, half_norms, slices

FRONT = 4096
"""Points that are looked at between two updates."""


def diverse(pool: Pool, config: Diverse) -> Decisions:
    """Keep `config.keep` rows; `order` tells in which order they were chosen, `distance` how far each image is from a kept one."""
    points, count = pool.embeddings(config.embedding), len(pool.ids)
    chosen, distance = farthest_first(points, min(config.keep, count))
    removed = np.ones(count, bool)
    removed[chosen] = False
    order = np.full(count, -1, np.int32)
    order[chosen] = np.arange(len(chosen))
    notes = [f"all {count} images kept: there are no more than `keep: {config.keep}`"] if count <= config.keep else []
    said = {"order": order, "distance": distance}
    return Decisions(removed, "near an image that is kept", said=said, metrics={"radius": float(distance.max())}, notes=notes)


def farthest_first(points: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows chosen one after the other, each the farthest from those before, the first row where several are; and all distances to them."""
    halves = half_norms(points)
    mean = points.mean(0, dtype=np.float64).astype(np.float32)
    squared = np.full(len(points), np.inf, np.float32)

    def update(new: NDArray[np.int64]) -> None:
        targets, half = points[new], halves[new]

        def block(rows: slice) -> None:
            for part in slices(len(new)):
                far = 2 * (halves[rows] - (points[rows] @ targets[part].T - half[part]).max(1))
                squared[rows] = np.minimum(squared[rows], np.maximum(far, 0))

        for _ in each(block, slices(len(points))):
            pass
        squared[new] = 0

    with threadpool_limits(1):
        chosen = [int((halves - points @ mean).argmin())]
    update(np.array(chosen))
    while len(chosen) < count:
        free = np.ones(len(points), bool)
        free[chosen] = False
        new = front(points, halves, np.where(free, squared, -1), count - len(chosen))
        update(new)
        chosen += new.tolist()
    return np.array(chosen), np.sqrt(squared)


def front(points: NDArray[np.float32], halves: NDArray[np.float32], squared: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """The next choices that can be made of the farthest points alone: at least one, at most `most`.

    Args:
        squared: (N,), squared distance to the nearest choice so far; negative where a point is chosen.
    """
    size = min(FRONT, len(points))
    floor = np.partition(squared, -size)[-size]
    above = np.flatnonzero(squared > floor)
    rows = np.sort(np.r_[above, np.flatnonzero(squared == floor)[: size - len(above)]])
    here, half, left = points[rows], halves[rows], squared[rows].copy()
    chosen: list[int] = []
    with threadpool_limits(1):
        while len(chosen) < most:
            best = int(left.argmax())
            if left[best] < 0 or (chosen and size < len(points) and left[best] <= floor):
                break
            chosen.append(best)
            left = np.minimum(left, np.maximum(2 * (half - (here @ here[best] - half[best])), 0))
            left[chosen] = -1
    return rows[chosen]
