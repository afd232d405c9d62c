"""VICReg's three terms and Barlow Twins' two. Shapes: B samples, D dimensions."""

from torch import Tensor
from torch.nn.functional import mse_loss, relu

from ssl_tasks.losses.precision import full_precision

EPSILON = 1e-4
"""Added to a variance before its square root (VICReg, equation 2)."""
NORM_EPSILON = 1e-5
"""The same of the batch norm before Barlow Twins' correlation: https://github.com/facebookresearch/barlowtwins/blob/main/main.py"""


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


@full_precision
def barlow_twins(z_BD: Tensor, z_prime_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of (1 - C_ii)^2 and, i other than j, of C_ij^2: the invariance and the redundancy term, not weighted yet.

    https://arxiv.org/abs/2103.03230, equation 1
    """
    correlation = cross_correlation(z_BD, z_prime_BD)
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum()


def cross_correlation(z_BD: Tensor, z_prime_BD: Tensor) -> Tensor:
    """C (D, D): the correlation over samples of each dimension of one view with each of the other (equation 2).

    Dimensions are standardised over the batch. Samples are not set to length 1, as some texts have it: the diagonal could not
    come near 1 then, as its sum would be at most 1.
    """
    return _standardised(z_BD).T @ _standardised(z_prime_BD) / len(z_BD)


def _standardised(z_BD: Tensor) -> Tensor:
    return (z_BD - z_BD.mean(dim=0)) / (z_BD.var(dim=0, correction=0) + NORM_EPSILON).sqrt()
