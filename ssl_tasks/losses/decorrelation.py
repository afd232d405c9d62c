"""VICReg's three terms. Shapes: B samples, D dimensions."""

from torch import Tensor
from torch.nn.functional import mse_loss, relu

from ssl_tasks.losses.precision import full_precision

EPSILON = 1e-4
"""Added to a variance before its square root (paper, equation 2)."""


@full_precision
def invariance(z_BD: Tensor, z_prime_BD: Tensor) -> Tensor:
    """Mean squared distance of the two views' embeddings, over samples and dimensions.

    The paper's equation 5 divides by B alone; the authors' code, whose weights everyone uses, divides by B and D.
    https://github.com/facebookresearch/vicreg/blob/main/main_vicreg.py
    """
    return mse_loss(z_BD, z_prime_BD)


@full_precision
def variance(z_BD: Tensor, z_prime_BD: Tensor) -> Tensor:
    """How far the standard deviation of each dimension stays below 1, a mean over dimensions and both views.

    Equation 1, of both views; the paper adds the two, the authors' code averages them, and so does this.
    """
    return (_hinge(z_BD) + _hinge(z_prime_BD)) / 2


@full_precision
def covariance(z_BD: Tensor, z_prime_BD: Tensor) -> Tensor:
    """Squared off-diagonal covariances over D, the sum of both views (equation 4)."""
    return _off_diagonal(z_BD) + _off_diagonal(z_prime_BD)


def _hinge(z_BD: Tensor) -> Tensor:
    return relu(1 - (z_BD.var(dim=0) + EPSILON).sqrt()).mean()


def _off_diagonal(z_BD: Tensor) -> Tensor:
    samples, dimensions = z_BD.shape
    centred = z_BD - z_BD.mean(dim=0)
    squared = (centred.T @ centred / (samples - 1)).square()
    return (squared.sum() - squared.diagonal().sum()) / dimensions
