"""Test images look for images of their class: mAP and recall@k over a ranking of the whole gallery.

Average precision divides by all images of the class that the gallery has, found early or late: mean over them of the precision at their
rank. Revisiting Oxford and Paris: Radenovic et al., 2018, https://arxiv.org/abs/1803.11285, section 3.

Differs from the paper: classes in place of landmarks, so that no image of the gallery is ignored; the precision at each rank and not its
mean with that just before it (the trapezoids of the benchmark's own program, whose AP is a little lower).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from schemas.protocols.grouping import Retrieval
from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.grouping.ranks import Metric, ranks
from ssl_tasks.evaluate.neighbours import Floats, Ints, Rows
from ssl_tasks.evaluate.subject import Subject


class Retrieved(NamedTuple):
    """Of each query that has an answer: its average precision (N,), and whether an answer is among the first k, 1 or 0, by k (N,)."""

    precisions: NDArray[np.float64]
    hits: dict[int, NDArray[np.float64]]


def judge(protocol: Retrieval, subject: Subject) -> Iterator[Number]:
    x, parts = subject.features, subject.world.parts
    same = protocol.gallery == "test"
    gallery = parts.queries if same else parts.bank
    found = retrieval(
        Rows(x, parts.queries), parts.labels[parts.queries], Rows(x, gallery), parts.labels[gallery],
        protocol.recalls, protocol.metric, same, subject.world.device,
    )  # fmt: skip
    yield Number("map", [float(found.precisions.mean())], len(found.precisions), found.precisions)
    for k, hits in found.hits.items():
        yield Number(f"recall_{k}", [float(hits.mean())], len(hits), hits)


def meaning(protocol: Retrieval) -> str:
    ranked = "all labelled train images" if protocol.gallery == "train" else "all other test images"
    nearness = "cosine" if protocol.metric == "cosine" else "Euclidean distance, of features as they come out"
    shares = ", ".join(f"R@{k}" for k in protocol.recalls)
    return (
        f"Each test image ranks {ranked} by {nearness}; those of its class are its answers. mAP is the mean over test images of the mean over "
        f"all answers of the precision at their rank; {shares}: percent of test images with an answer among so many first ones. Others as near "
        "as an answer stand before it. Test images of a class that the gallery has no image of are left out."
    )


def retrieval(
    queries: Floats | Rows, labels: Ints, gallery: Floats | Rows, gallery_labels: Ints,
    recalls: Sequence[int], metric: Metric = "cosine", same: bool = False, device: str = "cpu",
) -> Retrieved:  # fmt: skip
    """What the rankings of all queries that have an answer are worth, in the queries' order; arguments as of `ranks`.

    Raises:
        UserError: where no query has one.
    """
    precisions, first = np.full(len(labels), np.nan), np.zeros(len(labels))
    for query, places in ranks(queries, labels, gallery, gallery_labels, metric, same, device):
        if len(places):
            precisions[query], first[query] = average_precision(places), places[0]
    answered = ~np.isnan(precisions)
    if not answered.any():
        raise UserError("retrieval: no test image has another image of its class in the gallery; set `gallery: train`, or take another split")
    return Retrieved(precisions[answered], {k: (first[answered] <= k).astype(np.float64) for k in recalls})


def average_precision(places: NDArray[np.int64]) -> float:
    """Mean over the ranks of all answers, ascending from 1, of the share of answers among so many first ones."""
    return float((np.arange(1, len(places) + 1) / places).mean())
