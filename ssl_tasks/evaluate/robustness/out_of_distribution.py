"""Out-of-distribution detection: how well a score that saw no image of another data set tells them from test images of this one.

`knn`: the distance to the k-th nearest train image on L2-normalised features. Sun, Ming, Zhu, Li, 2022, https://arxiv.org/abs/2204.06507.
`mahalanobis`: the distance to the nearest class mean under the covariance that the classes share. Lee, Lee, Lee, Shin, 2018,
https://arxiv.org/abs/1807.03888, equation 2; without labels there is one class. `confidence`: the highest probability of the model's own head.
Hendrycks, Gimpel, 2016, https://arxiv.org/abs/1610.02136. What belongs is the positive class: AUROC is the chance that an image that
belongs scores above one that does not, FPR95 the share of the latter above the threshold that 95% of the former are above.

Differs from the papers: Mahalanobis takes the last features alone, without input perturbation.
"""

from collections.abc import Iterator

import numpy as np
import torch

from schemas.errors import UserError
from schemas.protocols.robustness import OutOfDistribution
from ssl_tasks.evaluate.findings import Number, Skipped
from ssl_tasks.evaluate.neighbours import Floats, Ints, neighbours
from ssl_tasks.evaluate.robustness.elsewhere import elsewhere
from ssl_tasks.evaluate.subject import Subject

ACCEPTED = 0.95
"""Share of the images that belong which the threshold of FPR95 lets pass, at least."""
_BLOCK = 4096
"""Rows that are turned into float64 at a time."""


def judge(protocol: OutOfDistribution, subject: Subject) -> Iterator[Number]:
    parts, away = subject.world.parts, elsewhere(protocol.kind, protocol.dataset, subject)
    there = away.world.parts
    outside = there.queries if len(there.queries) else there.train
    if not len(outside):
        raise UserError(f"out_of_distribution.dataset: '{protocol.dataset}' keeps no image")
    scores = _scores(protocol, subject, np.concatenate([subject.features[parts.queries], away.features[outside]]))
    inside, foreign = scores[: len(parts.queries)], scores[len(parts.queries) :]
    above = ranked(inside, foreign)
    yield Number("auroc", [float(above.mean())], len(above), above)
    passed = accepted(inside, foreign)
    yield Number("fpr95", [float(passed.mean())], len(passed), passed)


def meaning(protocol: OutOfDistribution) -> str:
    score = {
        "knn": f"how near (cosine) the nearest train image number {protocol.k} is",
        "mahalanobis": "how near the nearest class mean of the train images is, under the covariance that the classes share",
        "confidence": "how sure the model's own head is",
    }[protocol.score]
    return (
        f"Test images are told from images of '{protocol.dataset}' by {score}; nothing is fitted to the latter. AUROC: how often, in percent, an image "
        "that belongs scores above one that does not; chance is 50. FPR95: percent of those that do not belong which pass where 95% that do pass."
    )


def ranked(inside: Floats, outside: Floats) -> Floats:
    """Of each image that belongs the share of the others that score below it, a tie counting half, (Q,): their mean is the AUROC."""
    ordered = np.sort(outside)
    below, upto = (np.searchsorted(ordered, inside, side) for side in ("left", "right"))
    shares: Floats = (below + upto) / (2 * len(outside))
    return shares


def accepted(inside: Floats, outside: Floats) -> Floats:
    """Whether each image that does not belong passes the highest threshold that lets 95% of the others pass, 1 or 0, (M,)."""
    passing = int(np.ceil(ACCEPTED * len(inside)))
    threshold = np.sort(inside)[len(inside) - passing]
    found: Floats = (outside >= threshold).astype(np.float64)
    return found


def mahalanobis(bank: Floats, labels: Ints, queries: Floats) -> Floats:
    """Minus the squared distance of each query to the nearest class mean, (Q,).

    Args:
        bank, queries: features (N, D) and (Q, D).
        labels: classes (N,).

    Raises:
        UserError: where the images are too few for a covariance of D dimensions.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(bank) - len(classes) < bank.shape[1]:
        raise UserError(
            f"mahalanobis: {len(bank):,} train images of {len(classes)} classes are too few for the covariance of {bank.shape[1]:,} dimensions; "
            "take `score: knn`"
        )
    means = np.stack([bank[numbers == number].mean(0, dtype=np.float64) for number in range(len(classes))])
    scatter = np.zeros((bank.shape[1], bank.shape[1]))
    for start in range(0, len(bank), _BLOCK):
        around = bank[start : start + _BLOCK] - means[numbers[start : start + _BLOCK]]
        scatter += around.T @ around
    precision = np.linalg.pinv(scatter / len(bank), hermitian=True)
    away = np.stack([_squared(queries - mean, precision) for mean in means])
    nearest: Floats = -away.min(0)
    return nearest


def _squared(differences: Floats, precision: Floats) -> Floats:
    found: Floats = np.einsum("qd,qd->q", differences @ precision, differences)
    return found


def _scores(protocol: OutOfDistribution, subject: Subject, features: Floats) -> Floats:
    """Higher for what belongs, (Q,)."""
    parts, world = subject.world.parts, subject.world
    match protocol.score:
        case "knn":
            if protocol.k > len(parts.train):
                raise UserError(f"out_of_distribution: k is {protocol.k}, but only {len(parts.train)} train images are there; lower k")
            return neighbours(subject.features[parts.train], features, protocol.k, world.device)[0][:, -1]
        case "mahalanobis":
            rows = parts.bank if len(parts.bank) else parts.train
            return mahalanobis(subject.features[rows], parts.labels[rows], features)
        case "confidence":
            if subject.classifier is None:
                raise Skipped("is no classifier, whose confidence could be asked for")
            with torch.inference_mode():
                logits = subject.classifier.head(torch.from_numpy(features).to(world.device))
            surest: Floats = logits.double().softmax(1).amax(1).cpu().numpy()
            return surest
