"""How well a score tells copies: mAP, micro-AP, and recall at a precision.

A score is any number that is higher the more alike a query and a reference are. mAP ranks the references of one query at a time;
micro-AP ranks all pairs of all queries at once, so that a score must mean the same for every query: what one threshold needs.
https://arxiv.org/abs/2106.09672 (DISC21), section 5. Shapes: Q queries, R references, D dimensions, M nearest background images.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Matches = NDArray[np.bool_]


def average_precision(scores: Scores, positive: Matches, positives: int) -> float:
    """Mean over all positives of the precision at their rank; those that are not among the scores count as 0.

    Ties are broken against the positives.

    Args:
        scores: (N,), the higher the earlier.
        positive: (N,).
        positives: how many there are in truth, at least as many as in `positive`, more than 0.
    """
    found = positive[_ranking(scores, positive)]
    precision = found.cumsum() / np.arange(1, len(found) + 1)
    return float(precision[found].sum() / positives)


def mean_average_precision(scores_QR: Scores, matches_QR: Matches) -> float:
    """Mean of the average precision over the queries that have a match; others are distractors and do not count."""
    with_match = np.flatnonzero(matches_QR.any(axis=1))
    return float(np.mean([average_precision(scores_QR[q], matches_QR[q], int(matches_QR[q].sum())) for q in with_match]))


def micro_average_precision(scores: Scores, matches: Matches, positives: int | None = None) -> float:
    """Average precision of all pairs in one ranking: those of distractor queries are negatives.

    Args:
        scores: of each candidate pair, in any shape, such as (Q, R), or a list of candidates.
        matches: of the same shape.
        positives: pairs that match in truth, found or not; those in `matches` where not given.
    """
    return average_precision(scores.ravel(), matches.ravel(), int(matches.sum()) if positives is None else positives)


def recall_at_precision(scores: Scores, matches: Matches, precision: float = 0.9, positives: int | None = None) -> tuple[float, float]:
    """The largest share of the true pairs that a threshold finds while so many of all that it finds are true, and that threshold.

    Pairs of equal score are found together.

    Returns:
        Recall and threshold; 0 and infinity where no threshold is so precise.
    """
    flat, positive = scores.ravel(), matches.ravel()
    order = _ranking(flat, positive)
    ranked, found = flat[order], positive[order].cumsum()
    precise = found / np.arange(1, len(found) + 1) >= precision
    last_of_its_score = np.append(ranked[1:] < ranked[:-1], True)
    enough = np.flatnonzero(precise & last_of_its_score & (found > 0))
    if not len(enough):
        return 0.0, float("inf")
    return float(found[enough[-1]] / (positive.sum() if positives is None else positives)), float(ranked[enough[-1]])


def normalised(scores_QR: Scores, background_QM: Scores, beta: float = 1.0, nearest: int = 3) -> Scores:
    """Scores less `beta` times the mean of a query's highest scores against images that are copies of nothing.

    A query that is like everything, such as a nearly blank one, loses by it. https://arxiv.org/abs/2202.10261, section 5.3.

    Args:
        background_QM: scores of each query with background images, at least `nearest` of them.
    """
    highest = np.partition(background_QM, -nearest, axis=1)[:, -nearest:]
    lowered: Scores = scores_QR - beta * highest.mean(axis=1, keepdims=True)
    return lowered


def cosines(queries_QD: NDArray[np.float32], references_RD: NDArray[np.float32]) -> NDArray[np.float32]:
    """(Q, R) of vectors of any length; a vector of zeros is like nothing."""
    q, r = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries_QD, references_RD))
    product: NDArray[np.float32] = q @ r.T
    return product


def hash_likeness(queries: NDArray[np.uint64], references: NDArray[np.uint64]) -> NDArray[np.float32]:
    """(Q, R): the share of the 64 bits in which two perceptual hashes agree."""
    bits_q, bits_r = (np.unpackbits(hashes.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1 for hashes in (queries, references))
    return ((bits_q @ bits_r.T / 64 + 1) / 2).astype(np.float32)


def _ranking(scores: Scores, positive: Matches) -> NDArray[np.intp]:
    """Rows from the highest score down; of equal scores those that are no positives first."""
    return np.lexsort((positive, -scores))
