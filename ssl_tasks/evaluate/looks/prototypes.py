"""Prototypes, or where a checkpoint has none the centroids of k-means, with the images nearest to them. https://arxiv.org/abs/2006.09882

DINO and its heirs learn prototypes as the last layer of a head, SwAV as vectors behind its projector; both are kept with the training state.
Every image belongs to the prototype that it scores highest with; of k-means to the centroid that is nearest by cosine.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from schemas.protocols.looks import Prototypes
from ssl_tasks.evaluate.findings import Plate, Skipped
from ssl_tasks.evaluate.looks.shown import called, finite, stored
from ssl_tasks.evaluate.looks.whole import trained
from ssl_tasks.evaluate.neighbours import Ints
from ssl_tasks.evaluate.report.pictures import grid
from ssl_tasks.evaluate.split import Split
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.losses.clustering import cosines
from ssl_tasks.methods.clustering.swav import SwAV
from ssl_tasks.nn.heads import PrototypeHead

MOST = 20_000
"""Train images that are looked at, drawn at random where there are more."""
_BLOCK = 1024
"""Images that are scored at a time: there may be 65,536 prototypes."""


def judge(protocol: Prototypes, subject: Subject) -> Iterator[Plate]:
    world = subject.world
    rows = np.sort(np.random.default_rng(world.seed).permutation(world.parts.train)[:MOST])
    features = torch.from_numpy(np.ascontiguousarray(finite(subject.features[rows]), np.float32)).to(world.device)
    learned = of_head(subject, features)
    own, scores, count = centroids(features, protocol.clusters, world.seed) if learned is None else learned
    sizes = np.bincount(own, minlength=count)
    largest = np.argsort(-sizes, kind="stable")[: min(protocol.clusters, np.count_nonzero(sizes))]
    nearest = [members(own, scores, k)[: protocol.images] for k in largest]
    shown = [stored(world, rows[places]) for places in nearest]
    labels = [f"{sizes[k]:,} images{_most(world.parts, rows[own == k])}" for k in largest]
    what, used = f"{count:,} centroids of k-means", ""
    if learned is not None:
        what, used = f"the {count:,} prototypes", f" {np.count_nonzero(sizes):,} of the prototypes have any image."
    caption = (
        f"Of {what} of {subject.name} the {len(largest)} that most of {len(rows):,} train images belong to, each with its nearest images, the nearest first."
        f"{used} Left: how many belong to it{', and the class that most of them have' if world.parts.classes else ''}."
    )
    yield Plate(called("prototypes", subject), "looks", f"Prototypes: {subject.name}", caption, lambda theme: grid(shown, {}, theme, labels))


def meaning(protocol: Prototypes) -> str:
    return (
        f"The {protocol.clusters} prototypes that most train images belong to, with the {protocol.images} images nearest to each: those that DINO, an heir of "
        f"it or SwAV was trained with, where the training state was kept, or else {protocol.clusters} centroids of k-means of L2-normalised features. "
        f"At most {MOST:,} train images are looked at."
    )


Nearest = tuple[Ints, NDArray[np.float32], int]
"""Of each item (N,) the prototype that it belongs to, and its score with that one; and how many prototypes there are."""


@torch.inference_mode()
def of_head(subject: Subject, features: Tensor) -> Nearest | None:
    """Where features (N, D) belong among the prototypes that the model was trained with; None where it was with none, or did not keep them."""
    try:
        method: Any = trained(subject)
    except Skipped:
        return None
    if isinstance(method, SwAV):
        score, count = _of_swav(method), len(method.prototypes)
    elif head := _head(method):
        score, count = head, head.prototypes.out_features
    else:
        return None
    best = [score(block).float().max(1) for block in torch.split(features, _BLOCK)]
    own, scores = (torch.cat([getattr(each, name) for each in best]).cpu().numpy() for name in ("indices", "values"))
    return own, scores, count


def _of_swav(method: SwAV) -> Callable[[Tensor], Tensor]:
    return lambda features: cosines(normalize(method.projector(features), dim=1), method.prototypes)


def _head(method: Any) -> PrototypeHead | None:
    """The EMA teacher's head of DINO and its heirs; None of other methods."""
    teacher = getattr(method, "teacher_head", None) or getattr(getattr(method, "pair", None), "teacher_heads", None)
    network = getattr(teacher, "network", None)
    head = getattr(network, "crops", network)
    return head if isinstance(head, PrototypeHead) else None


def centroids(features: Tensor, count: int, seed: int) -> Nearest:
    """Where features (N, D) belong among centroids of k-means of them, all brought to length 1: by cosine."""
    from sklearn.cluster import KMeans

    unit = normalize(features, dim=1).cpu().numpy()
    centres = KMeans(min(count, len(unit)), n_init=3, random_state=seed).fit(unit).cluster_centers_
    scores = unit @ (centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)).T
    return scores.argmax(1), scores.max(1), len(centres)


def members(own: Ints, scores: NDArray[np.float32], prototype: int) -> Ints:
    """The items that belong to a prototype, the nearest first."""
    of = np.flatnonzero(own == prototype)
    return of[np.argsort(-scores[of], kind="stable")]


def _most(parts: Split, rows: Ints) -> str:
    """The most frequent class among rows, in a line of its own; empty without labels."""
    known = parts.labels[rows][parts.labels[rows] >= 0]
    if not len(known):
        return ""
    counts = np.bincount(known)
    return f"\n{counts.max() / len(known):.0%} {parts.classes[counts.argmax()][:12]}"
