"""Weighted nearest-neighbour vote: Wu, Xiong, Yu, Lin, 2018, https://arxiv.org/abs/1805.01978, section 3.4.

Cosine on L2-normalised features; a neighbour weighs exp(similarity / temperature).
"""

from collections.abc import Iterator

from schemas.errors import UserError
from schemas.protocols.frozen import KNN
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints, neighbours
from ssl_tasks.evaluate.probes import votes
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: KNN, subject: Subject) -> Iterator[Number]:
    x, parts, world = subject.features, subject.world.parts, subject.world
    found = knn(x[parts.bank], parts.labels[parts.bank], x[parts.queries], parts.labels[parts.queries], protocol.k, protocol.temperature, world.device)
    yield Number("accuracy", [float(found.mean())], len(found), found)


def meaning(protocol: KNN) -> str:
    return (
        f"Each test image takes the class that its {protocol.k} nearest train images vote for; a vote weighs "
        f"exp(cosine / {protocol.temperature:g}). Features are L2-normalised. Percent of test images that are right."
    )


def knn(bank: Floats, bank_labels: Ints, queries: Floats, query_labels: Ints, k: int, temperature: float, device: str = "cpu") -> Floats:
    """Whether the vote of each query's k nearest labelled images is right, 1 or 0, (Q,).

    Args:
        bank, queries: features, (N, D) and (Q, D).
        bank_labels, query_labels: classes, (N,) and (Q,); the latter only score the votes.

    Raises:
        UserError: if k is larger than the bank.
    """
    if k > len(bank):
        raise UserError(f"knn: k is {k}, but only {len(bank)} labelled train images are there; lower k")
    similarities, nearest = neighbours(bank, queries, k, device)
    return right(vote(similarities, bank_labels[nearest], temperature), query_labels)


def vote(similarities: Floats, labels: Ints, temperature: float) -> Ints:
    """The class with the largest sum of exp(similarity / temperature); the smallest of several with the same sum.

    Args:
        similarities, labels: of each query's neighbours, (Q, k).

    Returns:
        One class a query, (Q,).
    """
    chosen: Ints = votes(similarities, labels, temperature, int(labels.max()) + 1).argmax(1)
    return chosen
