"""RankMe: Garrido, Balestriero, Najman, LeCun, 2023, https://arxiv.org/abs/2210.02885, equation 1.

Needs no labels. A low rank tells a collapse; a high one promises nothing (Gaussian noise has full rank), and models of
different widths are not comparable by it.
"""

import numpy as np
import torch

from ssl_tasks.evaluate.knn import Floats
from ssl_tasks.measures import effective_rank


def rank(features: Floats, samples: int, seed: int) -> float:
    """Effective rank of (N, D) features, neither centred nor normalised: between 1 and min(N, D).

    Args:
        samples: more rows than this are drawn down to this many at random.
    """
    if len(features) > samples:
        features = features[np.random.default_rng(seed).choice(len(features), samples, replace=False)]
    return effective_rank(torch.from_numpy(np.ascontiguousarray(features)))
