"""Multinomial logistic regression on frozen features, as DINOv2 judges them: https://arxiv.org/abs/2304.07193, section 7.1.

Features are taken as they are: neither L2-normalised nor standardised. The strength C is the best of a geometric grid on a
held-out tenth of the bank (the smallest of equals), then the model is fitted to the whole bank.

Differs from the paper: 13 strengths unless stated (45), gradient tolerance 1e-6 (1e-12: three times the time, the same accuracy within
five of 500 digits), and each fit of the grid starts from the one before it.
"""

from collections.abc import Iterator

import numpy as np

from schemas.protocols.frozen import Linear
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.probes import Logistic, among_top, logistic
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Linear, subject: Subject) -> Iterator[Number]:
    x, parts, world = subject.features, subject.world.parts, subject.world
    wanted = parts.labels[parts.queries]
    fitted = Logistic(logistic(x[parts.bank], parts.labels[parts.bank], protocol.strengths, world.seed), len(parts.classes))
    found = right(fitted.predict(x[parts.queries]), wanted)
    yield Number("accuracy", [float(found.mean())], len(found), found)
    yield from among_top(fitted.scores(x[parts.queries]), wanted)


def meaning(protocol: Linear) -> str:
    return (
        f"Multinomial logistic regression (L-BFGS) on the features as they are: neither normalised nor standardised. The strength is "
        f"the best of {protocol.strengths} on a held-out tenth of the train images; then it is fitted to all of them."
    )


def linear(bank: Floats, bank_labels: Ints, queries: Floats, query_labels: Ints, strengths: int, seed: int) -> Floats:
    """Whether the fitted model is right on each query, 1 or 0, (Q,).

    Args:
        bank, queries: features, (N, D) and (Q, D).
        bank_labels, query_labels: classes, (N,) and (Q,); the latter only score.
        strengths: how many values of C are tried.

    Raises:
        UserError: if the bank has fewer than two classes.
    """
    return right(logistic(bank, bank_labels, strengths, seed).predict(queries.astype(np.float64)), query_labels)
