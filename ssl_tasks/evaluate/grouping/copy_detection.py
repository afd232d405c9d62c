"""Edited copies of test images look for their originals among distractors. DISC21: Douze et al., 2021, https://arxiv.org/abs/2106.09672, section 5.

Each query has its ten nearest references as candidates; an original that is not among them is missed, which costs mAP and micro-AP
alike. Half of the queries are copies of images that are no references: what they find is wrong under any threshold. Whitening and
normalised scores as in SSCD, https://arxiv.org/abs/2202.10261, sections 4.4 and 5.3.

Differs from the paper: copies are made by the edits that nothing here is trained or calibrated on (`ssl_tasks.data.edits.HELD_OUT`), each
of every image; half of the queries are without an answer, where four of five are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import UserError
from schemas.protocols.grouping import CopyDetection
from ssl_tasks.data.containers import place
from ssl_tasks.data.edits import HELD_OUT, copy
from ssl_tasks.data.store import centre_square, of_channels, parallel, read_listed
from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.grouping.average_precision import micro_average_precision, recall_at_precision
from ssl_tasks.evaluate.neighbours import Floats, Ints, neighbours
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.evaluate.world import World
from ssl_tasks.nn.descriptor import whitening

CANDIDATES = 10
"""References that each query is answered with, as in DISC21's evaluation by SSCD's authors."""
BACKGROUND = 20_000
"""Train images, no references, that a whitening is fitted to and scores are normalised by: at most."""
NEAREST = 3
"""Of them, the mean of whose scores is taken off a query's."""
LARGEST = 512
"""Longer side, in pixels, to which an image is shrunk before it is edited, where that is twice what an encoder sees of it."""
BATCH = 256


@dataclass(frozen=True)
class Parts:
    """Rows of the table by what they are here.

    Attributes:
        originals: references of which there are copies.
        absent: as many test images of which there are copies, but which are no references.
        distractors: references of which there are no copies.
        background: copies and references of nothing.
    """

    originals: Ints
    absent: Ints
    distractors: Ints
    background: Ints


def judge(protocol: CopyDetection, subject: Subject) -> Iterator[Number]:
    parts = divided(protocol, subject.world)
    references = np.concatenate([parts.originals, parts.distractors])
    copied = np.concatenate([parts.originals, parts.absent])
    queries = np.concatenate(list(copies(subject, copied)))
    known: Floats = subject.features[references]
    background: Floats = subject.features[parts.background]
    if protocol.whitening:
        mean, matrix = _whitening(background, subject.dim)
        queries, known, background = ((x - mean) @ matrix.T for x in (queries, known, background))
    device = subject.world.device
    scores, found = neighbours(known, queries, min(CANDIDATES, len(references)), device)
    if protocol.normalisation:
        scores = scores - neighbours(background, queries, NEAREST, device)[0].mean(1, keepdims=True)
    original = np.repeat(np.arange(len(copied)), len(HELD_OUT))
    matches = (found == original[:, None]) & (original < len(parts.originals))[:, None]
    positives = len(parts.originals) * len(HELD_OUT)
    each = reciprocal_ranks(scores[:positives], matches[:positives]).reshape(-1, len(HELD_OUT)).mean(1)
    yield Number("map", [float(each.mean())], len(each), each)
    yield Number("micro_ap", [micro_average_precision(scores, matches, positives)], len(queries))
    yield Number("recall_at_p90", [recall_at_precision(scores, matches, 0.9, positives)[0]], len(queries))


def meaning(protocol: CopyDetection) -> str:
    ways = [
        *(["features are centred and whitened by train images that are no references"] if protocol.whitening else []),
        *([f"from a query's scores the mean of its {NEAREST} highest with these images is taken off"] if protocol.normalisation else []),
    ]
    first = f"{' and '.join(ways).capitalize()}. " if ways else ""
    return (
        f"{first}Up to {protocol.originals:,} test images, at most half of them, lie among references with up to {protocol.distractors:,} train images; "
        f"copies of them, and of as many test images that are no references, by {len(HELD_OUT)} edits each ({', '.join(HELD_OUT)}) look for their "
        f"original by cosine among their {CANDIDATES} nearest references. mAP ranks the references of one copy, micro-AP those of all copies "
        "under one threshold; an original that is not found counts as missed. R@P90: percent of copies found by a threshold of 90 percent precision."
    )


def divided(protocol: CopyDetection, world: World) -> Parts:
    """Which images play which part, the same for all models."""
    parts, random = world.parts, np.random.default_rng(world.seed)
    test, train = random.permutation(parts.queries), random.permutation(parts.train)
    count, others = min(protocol.originals, len(test) // 2), min(protocol.distractors, len(train) // 2)
    if not count:
        raise UserError("copy_detection: it takes two test images, one of them without its original among the references; hold out more")
    if (protocol.whitening or protocol.normalisation) and len(train) - others < NEAREST:
        raise UserError(f"copy_detection: whitening and normalisation take {NEAREST} train images that are no references, and {len(train) - others} are left")
    return Parts(test[:count], test[count : 2 * count], train[:others], train[others : others + BACKGROUND])


def copies(subject: Subject, rows: Ints) -> Iterator[Floats]:
    """Features of the copies of some images by every edit, image by image, a batch at a time."""
    world = subject.world
    _, channels, side, _ = subject.images.shape
    largest = max(LARGEST, 2 * side)
    table = world.table.take(rows)
    listed = zip(*(table[name].to_pylist() for name in ("uri", "sha256", "id")), strict=True)

    def edited(one: tuple[str, str, int]) -> NDArray[np.uint8]:
        picture = read_listed(*one[:2], world.job.workspace)
        if not isinstance(picture, Image.Image):
            raise UserError(f"copy_detection: image {place(one[0], world.job.workspace)} is neither grey nor RGB, so no copies of it can be made; leave it out")
        picture.thumbnail((largest, largest), Image.Resampling.BICUBIC)
        made = (copy(picture, name, world.seed, one[2]) for name in HELD_OUT)
        return np.stack([of_channels(centre_square(each, side), channels, one[0], world.job.workspace) for each in made])

    images = list(listed)
    several = max(1, BATCH // len(HELD_OUT))
    for start in range(0, len(images), several):
        squares = np.concatenate(list(parallel(edited, images[start : start + several])))
        yield subject.embed(torch.from_numpy(squares)).pooled.float().cpu().numpy()


def reciprocal_ranks(scores: Floats, matches: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of queries with one answer each, (Q,): one over its rank among the candidates, others as near first; 0 if it is missed."""
    own = np.where(matches, scores, -np.inf).max(1, keepdims=True)
    found: NDArray[np.float64] = np.where(matches.any(1), 1 / (1 + ((scores >= own) & ~matches).sum(1)), 0.0)
    return found


def _whitening(features: Floats, dim: int) -> tuple[Floats, Floats]:
    """Mean (D,) and matrix (D, D)."""
    if len(features) <= dim:
        raise UserError(f"copy_detection: {dim} dimensions cannot be whitened by {len(features)} train images that are no references; leave whitening out")
    mean, matrix, _ = whitening(np.asarray(features, np.float32), dim)
    return mean, matrix
