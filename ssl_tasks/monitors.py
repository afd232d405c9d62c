"""Monitors: what tells, during training and without labels, whether a representation is alive; with labels also k-NN.

A loss alone does not tell: VICReg's and SimSiam's look best when they have collapsed, and DINO's stands still at ln K.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import UserError
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.loader import Images, seed_of
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.measures import alignment, effective_rank, nearest_neighbours, uniformity
from ssl_tasks.method import Method
from ssl_tasks.nn.features import prepare

SAMPLE, VIEWED = 512, 128
"""Images whose features are looked at, and how many of them also through views: all looks cost a few per cent of a short training."""


class Look:
    """Looks at a method through a fixed sample of training images.

    Args:
        images: uint8 (N, C, S, S); at most `SAMPLE` of them are drawn, in random order.
        labels: of the images, as text, None where unknown; k-NN is measured where all of the sample have one.
        seed: of the sample and of the views.
    """

    def __init__(self, images: Images, labels: Sequence[str | None], seed: int, device: torch.device | str) -> None:
        rows = np.random.default_rng(seed).permutation(len(images))[:SAMPLE]
        self.images = torch.from_numpy(images[rows]).to(device)
        known = [labels[row] for row in rows] if len(labels) else [None]
        self.labels = torch.from_numpy(np.unique(np.array(known, dtype=str), return_inverse=True)[1]).to(device) if None not in known else None
        self.generator = torch.Generator(device)
        self.seed = seed

    @torch.no_grad()
    def __call__(self, method: Method) -> dict[str, float]:
        """The method's own numbers, and those of the features of its exported encoder.

        `std`: of each dimension over the sample, mean over dimensions, as they come; `relative_std`: the same over the features'
        root mean square, so that it does not depend on their scale. `effective_rank` is RankMe's, which a large mean feature pulls
        towards 1; `centred_rank` is the same around the mean. `knn`: accuracy of the majority of 5 nearest neighbours.
        """
        encoder: Any = method.exported()
        first, second = (self._views(method, i) for i in (0, 1))
        size = encoder.config.image_size
        prepared = prepare(self.images, size, *MEAN_STD[self.images.shape[1]])
        features = torch.cat([encoder(batch).float() for batch in torch.split(prepared, VIEWED)])
        if not features.isfinite().all():
            raise UserError("the encoder's features are not finite: lower train.optimizer.learning_rate, or set train.clip to 1")
        std = features.std(dim=0).mean().item()
        seen = {
            "std": std,
            "relative_std": std / max(features.square().mean().sqrt().item(), 1e-12),
            "effective_rank": effective_rank(features),
            "centred_rank": effective_rank(features - features.mean(dim=0)),
            "alignment": alignment(encoder(first[0]).float(), encoder(second[0]).float()),
            "uniformity": uniformity(features),
            **method.monitored(first),
        }
        return seen if self.labels is None else {**seen, "knn": nearest_neighbours(features, self.labels)}

    def _views(self, method: Method, number: int) -> list[Tensor]:
        viewed = self.images[:VIEWED]
        return method.views(viewed, Draw(self.generator.manual_seed(seed_of(self.seed, "look", number)), len(viewed)))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; afterwards each part is back in the mode that it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
