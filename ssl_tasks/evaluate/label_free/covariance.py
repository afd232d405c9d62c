"""Eigenvalues of the features' covariance: what the protocols without labels look at. Shapes: N images, D dimensions."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import UserError
from ssl_tasks.evaluate.neighbours import Floats

_BLOCK = 4096
"""Rows that are turned into float64 at a time."""


def eigenvalues(features: Floats, device: str = "cpu") -> NDArray[np.float64]:
    """Of the covariance of (N, D) features, all D, the largest first; those that are nothing but rounding of float32 are 0.

    The covariance is symmetric and has no negative eigenvalue, so that these are its singular values.

    Raises:
        UserError: where all features are one point, or there is a single one.
    """
    if len(features) < 2:
        raise UserError("a covariance needs two images or more of the train split")
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(features), _BLOCK)]

    def block(rows: slice) -> Tensor:
        return torch.from_numpy(np.array(features[rows], np.float64)).to(device)

    mean = torch.stack([block(rows).sum(0) for rows in blocks]).sum(0) / len(features)
    variance = torch.stack([(block(rows) - mean).square().sum(0) for rows in blocks]).sum(0) / len(features)
    if len(features) < len(mean):  # what remains of the D are 0
        around = block(slice(None)) - mean
        products = around @ around.T
    else:
        products = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=device)
        for rows in blocks:
            around = block(rows) - mean
            products += around.T @ around
    found = torch.zeros(len(mean), dtype=torch.float64, device=device)
    found[: len(products)] = torch.linalg.eigvalsh(products / len(features)).flip(0)
    rounding = torch.finfo(torch.float32).eps ** 2 * float((variance + mean.square()).max())
    found = torch.where(found > rounding, found, 0.0)
    if found[0] == 0:
        raise UserError("its features are the same for all images that were looked at: the model has collapsed")
    values: NDArray[np.float64] = found.cpu().numpy()
    return values
