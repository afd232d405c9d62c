"""alpha-ReQ: Agrawal, Mondal, Ghosh, Richards, 2022, https://arxiv.org/abs/2202.05808, section 3.

The eigenvalues of the features' covariance fall like a power of their rank, lambda_j ~ j^-alpha. Good features are found near alpha = 1;
a large alpha tells that few dimensions carry all, a small one that noise fills the others. Needs no labels.

The line is fitted as the authors fit it (https://github.com/kumarkrishna/fastssl, fastssl/utils/powerlaw.py): by least squares in
logarithms, the eigenvalue of rank j weighing 1 / j, over ranks 4 to 100 unless stated.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from schemas.protocols.label_free import AlphaReQ
from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.label_free.covariance import eigenvalues
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject

_FEWEST = 3
"""Eigenvalues that tell a slope from an accident."""


def judge(protocol: AlphaReQ, subject: Subject) -> Iterator[Number]:
    world = subject.world
    rows = drawn(world.parts.train, protocol.samples, world.seed)
    yield Number("alpha", [slope(eigenvalues(subject.features[rows], world.device), protocol.first, protocol.last)], len(rows))


def meaning(protocol: AlphaReQ) -> str:
    return (
        f"alpha-ReQ: the power by which the eigenvalues of the covariance of up to {protocol.samples:,} train features decay with their rank, "
        f"fitted from rank {protocol.first} to {protocol.last}, or to the last above rounding; no labels. Good features tend to lie near 1: more "
        "tells that few dimensions carry all, less that all do alike, as in noise. Neither end is better. Compare only models of one width."
    )


def slope(eigenvalues_D: NDArray[np.floating], first: int, last: int) -> float:
    """alpha of eigenvalues, the largest first.

    Args:
        first, last: ranks that the line is fitted to, from 1; eigenvalues of 0 end it earlier.

    Raises:
        UserError: where fewer than three of them are above 0.
    """
    last = min(last, int((eigenvalues_D > 0).sum()))
    if last - first + 1 < _FEWEST:
        raise UserError(f"its features have {last} eigenvalues above rounding, and from rank {first} on a slope needs {_FEWEST}: lower first")
    ranks = np.arange(first, last + 1)
    # polyfit weighs residuals before they are squared.
    falling, _ = np.polyfit(np.log(ranks), np.log(eigenvalues_D[first - 1 : last]), 1, w=np.sqrt(1 / ranks))
    return -float(falling)
