"""RankMe: Garrido, Balestriero, Najman, LeCun, 2023, https://arxiv.org/abs/2210.02885, equation 1.

Needs no labels. A low rank tells a collapse; a high one promises nothing (Gaussian noise has full rank), and models of
different widths are not comparable by it.
"""

from collections.abc import Iterator

import numpy as np
import torch

from schemas.protocols.label_free import Rank
from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.neighbours import Floats
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.measures import effective_rank


def judge(protocol: Rank, subject: Subject) -> Iterator[Number]:
    train = subject.world.parts.train
    yield Number("effective_rank", [rank(subject.features[train], protocol.samples, subject.world.seed)], min(len(train), protocol.samples))


def meaning(protocol: Rank) -> str:
    return (
        f"RankMe: exp of the entropy of the normalised singular values of up to {protocol.samples:,} train features; no labels. "
        "At most the feature's dimension, so compare only models of one width. A low rank tells a collapse; a high one promises nothing."
    )


def rank(features: Floats, samples: int, seed: int) -> float:
    """Effective rank of (N, D) features, neither centred nor normalised: between 1 and min(N, D).

    Args:
        samples: more rows than this are drawn down to this many at random.
    """
    if len(features) > samples:
        features = features[np.random.default_rng(seed).choice(len(features), samples, replace=False)]
    return effective_rank(torch.from_numpy(np.ascontiguousarray(features)))
