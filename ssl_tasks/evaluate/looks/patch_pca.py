"""The first three principal components of patch features as red, green and blue, over several images at once. https://arxiv.org/abs/2304.07193

As in the paper's figure 1: a first PCA over the patches of all images parts foreground from background by its first component, a second
one over the foreground gives the colours. Equal colours in different images are like features.

Differs from the paper: its threshold and the foreground's side are picked by eye, here they are zero and the side with fewer patches.
A component's sign is arbitrary; here its largest loading is positive, so that a figure comes out alike each time.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.protocols.looks import PatchPCA
from ssl_tasks.evaluate.findings import Plate, Skipped
from ssl_tasks.evaluate.looks.shown import called, fed, finite, seen, some, which
from ssl_tasks.evaluate.report.pictures import Picture, grid
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.maps import grid_of

Values = NDArray[np.float64]
FEWEST = 16
"""Foreground patches that colours can be fitted to; all patches are where there are fewer."""
PERCENTILES = (1, 99)
"""Of a component that are its darkest and brightest: some patches lie far out."""
ACROSS = 4
"""Pairs of an image and its colours a row."""


def judge(protocol: PatchPCA, subject: Subject) -> Iterator[Plate]:
    images = fed(subject, some(subject.world, protocol.images))
    with torch.inference_mode():
        patches = subject.encoder.tokens(images).patches
    if patches.shape[1] < 4:
        raise Skipped("has too few places an image for a picture of them")
    side = grid_of(patches.shape[1])
    colours, front = painted(finite(patches.float().cpu().numpy()), protocol.foreground)
    shown = [(255 * own.reshape(*side, 3).transpose(2, 0, 1)).round().astype(np.uint8) for own in colours]
    pairs: list[Picture] = [picture for pair in zip(seen(subject, images), shown, strict=True) for picture in pair]
    rows = [pairs[start : start + 2 * ACROSS] for start in range(0, len(pairs), 2 * ACROSS)]
    caption = (
        f"{len(images)} {which(subject.world)} as {subject.name} sees them, each beside the first three principal components of its patch features as red, "
        "green and blue. The components are those of all images together: equal colours are like features."
    )
    if protocol.foreground:
        caption += f" Black: the other side of the first component, {1 - front.mean():.0%} of the patches."
    yield Plate(called("patch_pca", subject), "looks", f"Patch features: {subject.name}", caption, lambda theme: grid(rows, {}, theme, together=2))


def meaning(protocol: PatchPCA) -> str:
    told = "A PCA over the patch features of all shown images"
    if protocol.foreground:
        told += " splits them in two by its first component; a second one over the side with fewer patches"
    return f"{told} gives three components, which are shown as red, green and blue from their {PERCENTILES[0]}st to their {PERCENTILES[1]}th percentile."


def painted(patches: NDArray[np.floating], foreground: bool) -> tuple[Values, NDArray[np.bool_]]:
    """Colours in [0, 1] of patch features (B, N, D), (B, N, 3), black outside the foreground; and which patches are foreground, (B, N).

    Raises:
        Skipped: where all patches have the same feature.
    """
    flat = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
    if np.ptp(flat, axis=0).max() <= 1e-6 * max(np.abs(flat).max(), 1e-30):
        raise Skipped("gives every patch the same feature: it has collapsed")
    front = np.ones(len(flat), bool)
    if foreground:
        above = components(flat, flat, 1)[:, 0] > 0
        fewer = above if above.sum() <= len(above) / 2 else ~above
        front = fewer if fewer.sum() >= FEWEST else front
    scores = components(flat, flat[front], 3)
    low, high = np.percentile(scores[front], PERCENTILES, axis=0)
    colours = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours[~front] = 0
    return colours.reshape(*patches.shape[:2], 3), front.reshape(patches.shape[:2])


def components(points: Values, of: Values, count: int) -> Values:
    """Scores (N, count) of points (N, D) on the first principal components of others (M, D); zero on those that they do not have."""
    centred = of - of.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0))
    scores = (points - of.mean(0)) @ axes
    return np.pad(scores, ((0, 0), (0, count - scores.shape[1])))
