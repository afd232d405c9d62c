"""Masks of a video's first frame carried on by nearest patches, without training: J, F and their mean on DAVIS 2017.

Jabri et al., 2020, https://arxiv.org/abs/2006.14613; with the settings of DINO, https://arxiv.org/abs/2104.14294, section 4.2.2.
Every patch of a frame takes the mean of the masks of its most similar patches in the first frame and the few frames before it.
As in the benchmark's own evaluation the first and the last frame are not judged, and a score is the mean over objects.

Differs from DINO: masks are enlarged straight to the frame's own size, and frames are read at their own size unless `size` is given.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from schemas.errors import UserError
from schemas.protocols.dense import Propagation
from ssl_tasks.data.annotations.videos import VOID, Video, videos
from ssl_tasks.evaluate.dense.carrying import decide, propagate
from ssl_tasks.evaluate.dense.figures import Carried, carried
from ssl_tasks.evaluate.dense.grids import grid, stride
from ssl_tasks.evaluate.dense.mask_scores import boundary, region
from ssl_tasks.evaluate.findings import Finding, Number, Plate
from ssl_tasks.evaluate.looks.shown import called
from ssl_tasks.evaluate.subject import Subject

_SHOWN = 3
"""Videos in the figure."""


def judge(protocol: Propagation, subject: Subject) -> Iterator[Finding]:
    step = stride(subject.encoder)
    scores: list[NDArray[np.float64]] = []
    shown: list[Carried] = []
    for video in videos(protocol.annotations, subject.world.job.workspace):
        items, moments = _judged(video, _found(protocol, subject, video, step), subject.config.channels)
        scores.append(items)
        shown += [moments] if len(shown) < _SHOWN else []
    j, f = np.concatenate(scores).T
    for metric, items in (("jf", (j + f) / 2), ("j", j), ("f", f)):
        yield Number(metric, [float(items.mean())], len(items), items)
    caption = (
        f"Masks that patches of {subject.name} carry on from the first frame (left) through a video, a row each. "
        f"One colour an object. Of all {len(scores)} videos with {len(j)} objects J&F is {100 * (j + f).mean() / 2:.1f}."
    )
    yield Plate(called("propagation", subject), "looks", f"Masks carried on: {subject.name}", caption, lambda theme: carried(shown, theme))


def meaning(protocol: Propagation) -> str:
    size = "at their own size" if protocol.size is None else f"resized to a shorter side of {protocol.size} pixels"
    return (
        f"The masks of a video's first frame are carried on without training: each patch takes the mean mask of the {protocol.neighbours} most similar "
        f"patches (cosine) of the first frame and the {protocol.context} before it that lie within {protocol.radius} patches along each axis, weighted by "
        f"exp(cosine / {protocol.temperature:g}). Frames are read {size}. J is the IoU of a mask, F how well its boundary fits, within "
        "0.8% of the diagonal; both are means over the frames between the first and the last, then over objects."
    )


def _objects(video: Video) -> NDArray[np.int64]:
    """Numbers of the objects in a video's first frame. Raises UserError where it has none."""
    mask = video.mask(0)
    assert mask is not None
    objects: NDArray[np.int64] = np.setdiff1d(mask, [0, VOID])
    if not len(objects):
        raise UserError(f"the first mask of video '{video.name}' shows no object: every value is 0 or {VOID}")
    return objects


def _found(protocol: Propagation, subject: Subject, video: Video, step: int) -> Iterator[NDArray[np.int64]]:
    """Of every frame from the first on which object each pixel is of, by its number in the video's own masks."""
    objects, mask = np.concatenate([[0], _objects(video)]), video.mask(0)
    assert mask is not None
    yield np.where(np.isin(mask, objects), mask, 0)
    images = (video.frame(number, subject.config.channels) for number in range(len(video)))
    sizes: list[tuple[int, int]] = []

    def features() -> Iterator[Tensor]:
        for image in images:
            sizes.append((image.shape[1], image.shape[2]))
            if sizes[-1] != sizes[0]:
                raise UserError(f"video '{video.name}' has frames of two sizes, {sizes[0][::-1]} and {sizes[-1][::-1]} pixels: make them one")
            yield grid(subject, image, step, protocol.size)

    walk = features()
    start = next(walk)
    shares = one_hot(torch.from_numpy(np.searchsorted(objects, np.where(np.isin(mask, objects), mask, 0))), len(objects)).permute(2, 0, 1).float()
    first = interpolate(shares[None], size=start.shape[1:], mode="nearest-exact")[0].to(start.device)
    settings = (protocol.context, protocol.neighbours, protocol.radius, protocol.temperature)
    for masks in propagate(chain([start], walk), first, *settings):
        yield objects[decide(masks, sizes[0])]


def _judged(video: Video, found: Iterator[NDArray[np.int64]], channels: int) -> tuple[NDArray[np.float64], Carried]:
    """J and F of each object, (n, 2), means over the frames with a mask between the first and the last; and four moments to look at."""
    objects, last = _objects(video), len(video) - 1
    moments = np.linspace(0, last, 4).round().astype(int).tolist()
    scores, shown = [], Carried([], [])
    for number, masks in enumerate(found):
        if number in moments:
            shown.frames.append(video.frame(number, channels).mean(0))
            shown.masks.append(masks)
        truth = video.mask(number) if 0 < number < last else None
        if truth is not None:
            valid = truth != VOID
            pairs = [((masks == o) & valid, truth == o) for o in objects]
            scores.append([(region(*pair), boundary(*pair)) for pair in pairs])
    if not scores:
        raise UserError(f"video '{video.name}' has no mask between its first and its last frame, where masks are judged; it has {last + 1} frames")
    mean: NDArray[np.float64] = np.mean(np.array(scores, np.float64), axis=0)
    return mean, shown
