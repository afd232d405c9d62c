"""Weighted nearest-neighbour vote: Wu, Xiong, Yu, Lin, 2018, https://arxiv.org/abs/1805.01978, section 3.4.

Cosine on L2-normalised features; a neighbour weighs exp(similarity / temperature). Several numbers of neighbours share one search.
"""

from collections.abc import Iterator

from schemas.errors import UserError
from schemas.protocols.frozen import KNN
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints, Rows, neighbours
from ssl_tasks.evaluate.probes import among_top, votes
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: KNN, subject: Subject) -> Iterator[Number]:
    parts, k = subject.world.parts, protocol.k
    assert isinstance(k, int)
    check(k, len(parts.bank))
    similarities, nearest = searched(subject, k)
    labels, wanted = parts.labels[parts.bank][nearest[:, :k]], parts.labels[parts.queries]
    sums = votes(similarities[:, :k], labels, protocol.temperature, len(parts.classes))
    found = right(sums.argmax(1), wanted)
    yield Number("accuracy", [float(found.mean())], len(found), found)
    yield from among_top(sums, wanted)


def meaning(protocol: KNN) -> str:
    return (
        f"Each test image takes the class that its {protocol.k} nearest train images vote for; a vote weighs "
        f"exp(cosine / {protocol.temperature:g}). Features are L2-normalised. Percent of test images that are right."
    )


def searched(subject: Subject, k: int) -> tuple[Floats, Ints]:
    """Similarities and bank rows of each query's neighbours, as many as any k-NN of the stage asks for, `k` or more; searched once a model."""
    parts = subject.world.parts
    asked = [p.k for p in subject.world.stage.protocols if isinstance(p, KNN) and isinstance(p.k, int) and p.k <= len(parts.bank)]
    key = ("knn", max(k, *asked, 0))
    if key not in subject.shared:
        x = subject.features
        subject.shared[key] = neighbours(Rows(x, parts.bank), Rows(x, parts.queries), key[1], subject.world.device)
    found: tuple[Floats, Ints] = subject.shared[key]
    return found


def knn(bank: Floats, bank_labels: Ints, queries: Floats, query_labels: Ints, k: int, temperature: float, device: str = "cpu") -> Floats:
    """Whether the vote of each query's k nearest labelled images is right, 1 or 0, (Q,).

    Args:
        bank, queries: features, (N, D) and (Q, D).
        bank_labels, query_labels: classes, (N,) and (Q,); the latter only score the votes.

    Raises:
        UserError: if k is larger than the bank.
    """
    check(k, len(bank))
    similarities, nearest = neighbours(bank, queries, k, device)
    return right(vote(similarities, bank_labels[nearest], temperature), query_labels)


def check(k: int, bank: int) -> None:
    """Raises UserError if there are fewer images than neighbours are asked for."""
    if k > bank:
        raise UserError(f"knn: k is {k}, but only {bank} labelled train images are there; lower k")


def vote(similarities: Floats, labels: Ints, temperature: float) -> Ints:
    """The class with the largest sum of exp(similarity / temperature); the smallest of several with the same sum.

    Args:
        similarities, labels: of each query's neighbours, (Q, k).

    Returns:
        One class a query, (Q,).
    """
    chosen: Ints = votes(similarities, labels, temperature, int(labels.max()) + 1).argmax(1)
    return chosen
