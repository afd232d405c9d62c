"""Keypoints found again in another image by nearest patches, without training: PCK.

The share of points that are found within a share of the image's side: https://arxiv.org/abs/1908.10543 (SPair-71k), section 4. That patches
of a self-supervised ViT find points again: Amir et al., 2021, https://arxiv.org/abs/2112.05814; DINO, https://arxiv.org/abs/2104.14294.

Differs from SPair-71k: the side is the target image's longer one, not that of a box around the object.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.protocols.dense import Correspondence
from ssl_tasks.data.annotations.pairs import pairs
from ssl_tasks.evaluate.dense.figures import Matches, matches
from ssl_tasks.evaluate.dense.grids import grid, stride
from ssl_tasks.evaluate.findings import Finding, Number, Plate
from ssl_tasks.evaluate.looks.shown import called
from ssl_tasks.evaluate.subject import Subject

_SHOWN = 4
"""Pairs in the figure."""


def judge(protocol: Correspondence, subject: Subject) -> Iterator[Finding]:
    step, channels = stride(subject.encoder), subject.config.channels
    scores: list[NDArray[np.float64]] = []
    shown: list[Matches] = []
    for pair in pairs(protocol.annotations, subject.world.job.workspace, channels):
        source, target = (grid(subject, image, step, protocol.size) for image in (pair.source, pair.target))
        found = transfer(source, target, pair.points[:, :2], pair.source.shape[1:], pair.target.shape[1:])
        scores.append(within(found, pair.points[:, 2:], protocol.threshold * max(pair.target.shape[1:])))
        if len(shown) < _SHOWN and channels in (1, 3):
            shown.append(Matches(pair.source, pair.target, pair.points[:, :2], found, scores[-1] > 0))
    items = np.concatenate(scores)
    yield Number("pck", [float(items.mean())], len(items), items)
    if shown:
        caption = (
            f"Points of the left image where patches of {subject.name} find them in the right one: {int(items.sum()):,} of {len(items):,} points "
            f"of {len(scores)} pairs are right within {protocol.threshold:g} of the longer side. Red and crossed: wrong."
        )
        yield Plate(called("correspondence", subject), "looks", f"Points found again: {subject.name}", caption, lambda theme: matches(shown, theme))


def meaning(protocol: Correspondence) -> str:
    size = "at their own size" if protocol.size is None else f"resized to a shorter side of {protocol.size} pixels"
    return (
        "Each point of an image is looked for in another one without training: it is taken to lie in the middle of the patch whose feature is most similar "
        f"(cosine) to that of the point's own patch. Images are read {size}. PCK is the percent of points that are found within "
        f"{protocol.threshold:g} of the target image's longer side."
    )


def transfer(source: Tensor, target: Tensor, points: NDArray[np.float64], size: tuple[int, ...], target_size: tuple[int, ...]) -> NDArray[np.float64]:
    """Where points of one image lie in another, (n, 2), by features of unit length, (D, h, w) each.

    Args:
        points: x and y in pixels of an image of `size`, (height, width).
        target_size: of the image in whose pixels the answer is.
    """
    columns, rows = (np.clip(points[:, i] * source.shape[2 - i] / size[1 - i], 0, source.shape[2 - i] - 1).astype(int) for i in range(2))
    nearest = (source[:, torch.from_numpy(rows), torch.from_numpy(columns)].T @ target.flatten(1)).argmax(1).cpu().numpy()
    rows, columns = np.divmod(nearest, target.shape[2])
    return np.stack([(columns + 0.5) * target_size[1] / target.shape[2], (rows + 0.5) * target_size[0] / target.shape[1]], 1)


def within(found: NDArray[np.float64], truth: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Whether each point (n, 2) lies within a distance of its true place, 1 or 0."""
    right: NDArray[np.float64] = np.less_equal(np.hypot(*(found - truth).T), distance).astype(np.float64)
    return right
