"""Multinomial logistic regression on frozen features, as DINOv2 judges them: https://arxiv.org/abs/2304.07193, section 7.1.

Features are taken as they are: neither L2-normalised nor standardised. The strength C is the best of a geometric grid on a
held-out tenth of the bank (the smallest of equals), then the model is fitted to the whole bank.

Differs from the paper: 13 strengths unless stated (45), gradient tolerance 1e-6 (1e-12: three times the time, the same accuracy within
five of 500 digits), and each fit of the grid starts from the one before it.
"""

import warnings
from collections.abc import Iterator

import numpy as np

from schemas.errors import UserError
from schemas.protocols.frozen import Linear
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.held_out import split
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.subject import Subject

_LOWEST, _HIGHEST = -6, 5
"""Powers of ten between which C is searched (DINOv2, dinov2/eval/log_regression.py)."""

_SMALL = 10_000_000
"""Values of a bank for which threads cost more than they give: on two busy cores the fits to 1,297 x 128 took 31 s with two, 3 s with one."""


def judge(protocol: Linear, subject: Subject) -> Iterator[Number]:
    x, parts, world = subject.features, subject.world.parts, subject.world
    found = linear(x[parts.bank], parts.labels[parts.bank], x[parts.queries], parts.labels[parts.queries], protocol.strengths, world.seed)
    yield Number("accuracy", [float(found.mean())], len(found), found)


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
    if len(np.unique(bank_labels)) < 2:
        raise UserError(f"linear: the {len(bank)} labelled train images are all of one class; two are needed")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    x, queries = bank.astype(np.float64), queries.astype(np.float64)
    held, fitted = split(bank_labels, seed)
    with warnings.catch_warnings(), threadpool_limits(1 if x.size < _SMALL else None):
        # Large C on separable classes has no finite optimum: the 1000 iterations are the protocol's stop.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(tol=1e-6, max_iter=1000, warm_start=True)
        grid = np.logspace(_LOWEST, _HIGHEST, strengths)
        scores = [model.set_params(C=c).fit(x[fitted], bank_labels[fitted]).score(x[held], bank_labels[held]) for c in grid]
        best = LogisticRegression(C=grid[int(np.argmax(scores))], tol=1e-6, max_iter=1000).fit(x, bank_labels)
    return right(best.predict(queries), query_labels)
