"""VICReg and Barlow Twins: losses against the papers' formulas and numbers worked out by hand, and what each term keeps away."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from formulas import Matrix, double
from numpy.testing import assert_allclose
from planted import centred_rank, learned, on_points, two_views
from torch import Tensor, nn

from schemas.methods import BarlowTwins as BarlowTwinsConfig
from schemas.methods import VICReg as VICRegConfig
from ssl_tasks.losses.decorrelation import NORM_EPSILON, barlow_twins, covariance, cross_correlation, invariance, variance
from ssl_tasks.methods.decorrelation.barlow_twins import BarlowTwins
from ssl_tasks.methods.decorrelation.vicreg import VICReg


def two(*shape: int) -> tuple[Tensor, Tensor]:
    """Standard normal numbers, the same at each call."""
    first, second = torch.randn(2, *shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    return first, second


# VICReg


def vicreg_by_formula(z: Matrix, z_prime: Matrix) -> tuple[float, float, float]:
    """Equations 1 to 5 of https://arxiv.org/abs/2105.04906 in the scaling of the authors' code."""
    n, d = z.shape
    hinge = [sum(max(0.0, 1 - math.sqrt(y[:, j].var(ddof=1) + 1e-4)) for j in range(d)) / d for y in (z, z_prime)]
    off_diagonal = 0.0
    for y in (z, z_prime):
        c = np.cov(y, rowvar=False)
        off_diagonal += sum(float(c[i, j]) ** 2 for i, j in product(range(d), repeat=2) if i != j) / d
    return float(((z - z_prime) ** 2).sum() / (n * d)), sum(hinge) / 2, off_diagonal


def vicreg_terms(z: Tensor, z_prime: Tensor) -> list[float]:
    return [float(term(z, z_prime)) for term in (invariance, variance, covariance)]


def test_vicreg_is_the_papers_equations_in_the_authors_scaling() -> None:
    z, z_prime = two(7, 4)
    assert_allclose(vicreg_terms(0.6 * z, z_prime), vicreg_by_formula(0.6 * z.numpy(), z_prime.numpy()), rtol=1e-12)


def test_vicreg_of_a_collapsed_batch_is_its_variance_term_alone() -> None:
    z = torch.zeros(4, 2, dtype=torch.float64)
    assert_allclose(vicreg_terms(z, z), [0, 0.99, 0], atol=1e-12)
    assert_allclose(25 * variance(z, z), 24.75, atol=1e-12)


VICREG_TOY = double([[1, 2], [-1, 0], [1, 0], [-1, -2]]), double([[1, 1], [-1, 1], [1, -1], [-1, -1]])


def test_vicreg_worked_out_by_hand() -> None:
    terms = vicreg_terms(*VICREG_TOY)
    assert_allclose(terms, [0.5, 0, 1.777778], atol=1e-6)
    assert_allclose(np.dot([25, 25, 1], terms), 14.277778, atol=1e-6)


def test_vicreg_worked_out_by_hand_with_little_spread() -> None:
    terms = vicreg_terms(*(0.1 * z for z in VICREG_TOY))
    assert_allclose(terms[1], 0.872172, atol=1e-6)
    assert_allclose(np.dot([25, 25, 1], terms), 21.929478, atol=1e-6)


def vicreg(**weights: float) -> VICReg:
    method = on_points(VICReg, VICRegConfig(hidden=32, output=16, **weights))  # type: ignore[arg-type]  # of several types
    assert isinstance(method, VICReg)
    return method


def test_vicreg_weighs_its_terms() -> None:
    views, method = two_views(torch.Generator().manual_seed(0)), vicreg(invariance=2.0, variance=3.0, covariance=5.0)
    z, z_prime = method.expander(method.encoder(torch.cat(views))).chunk(2)
    expected = {"invariance": 2 * invariance(z, z_prime), "variance": 3 * variance(z, z_prime), "covariance": 5 * covariance(z, z_prime)}
    assert method(views, 0.5) == expected


def test_vicreg_without_variance_collapses_to_a_point() -> None:
    def spread(method: VICReg) -> float:
        learned(method)
        return method.eval().monitored(two_views(torch.Generator().manual_seed(2)))["embedding_std"]

    assert spread(vicreg()) > 0.9
    assert spread(vicreg(variance=0.0)) < 0.05


def test_vicreg_without_covariance_says_the_same_in_many_dimensions() -> None:
    def rank(method: VICReg) -> float:
        learned(method)
        return centred_rank(nn.Sequential(method.encoder, method.expander).eval())

    assert rank(vicreg(covariance=0.0)) < 0.7 * rank(vicreg())


# Barlow Twins


def correlation_by_formula(z: Matrix, z_prime: Matrix) -> Matrix:
    """Equation 2 of https://arxiv.org/abs/2103.03230 with loops, of embeddings that are first set to mean zero over the batch."""
    z, z_prime = z - z.mean(axis=0), z_prime - z_prime.mean(axis=0)
    d = z.shape[1]
    c = np.empty((d, d))
    for i, j in product(range(d), repeat=2):
        above = sum(z[b, i] * z_prime[b, j] for b in range(len(z)))
        c[i, j] = above / (math.sqrt(sum(z[b, i] ** 2 for b in range(len(z)))) * math.sqrt(sum(z_prime[b, j] ** 2 for b in range(len(z)))))
    return c


def barlow_by_formula(c: Matrix) -> tuple[float, float]:
    """The two sums of equation 1."""
    d = len(c)
    return sum((1 - c[i, i]) ** 2 for i in range(d)), sum(c[i, j] ** 2 for i, j in product(range(d), repeat=2) if i != j)


def test_barlow_twins_is_the_papers_equations() -> None:
    z, z_prime = (1000 * y + 3 for y in two(7, 4))  # so large that the epsilon of the authors' batch norm plays no part
    c = correlation_by_formula(z.numpy(), z_prime.numpy())
    assert_allclose(cross_correlation(z, z_prime), c, atol=1e-10)
    assert_allclose(barlow_twins(z, z_prime), barlow_by_formula(c), rtol=1e-9)


def test_barlow_twins_standardises_as_the_authors_batch_norm() -> None:
    z, z_prime = (0.01 * y for y in two(7, 4))
    first, second = ((y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + NORM_EPSILON) for y in (z.numpy(), z_prime.numpy()))
    assert_allclose(cross_correlation(z, z_prime), first.T @ second / 7, rtol=1e-12)


HADAMARD = double([[1, 1], [-1, 1], [1, -1], [-1, -1]])


@pytest.mark.parametrize(
    ("z", "z_prime", "expected"),
    [
        (HADAMARD, HADAMARD, 0.0),
        (HADAMARD, HADAMARD.flip(1), 2.01),  # two dimensions change places: D + lambda D
        (HADAMARD[:, [0, 0]], HADAMARD[:, [0, 0]], 0.01),  # one dimension twice: lambda D (D - 1)
    ],
    ids=["identity", "swapped", "redundant"],
)
def test_barlow_twins_worked_out_by_hand(z: Tensor, z_prime: Tensor, expected: float) -> None:
    terms = [float(term) for term in barlow_twins(z, z_prime)]
    assert_allclose(np.dot([1, 5e-3], terms), expected, atol=1e-6)


def test_barlow_twins_redundancy_of_independent_dimensions_is_what_chance_leaves() -> None:
    """Of 8 dimensions and 4096 samples, D (D - 1) / N = 0.0137 is expected."""
    z, _ = two(4096, 8)
    on_diagonal, off_diagonal = barlow_twins(z, z)
    assert on_diagonal < 1e-8
    assert_allclose(off_diagonal, 8 * 7 / 4096, rtol=0.5)


def test_barlow_twins_can_reach_the_identity_as_dimensions_and_not_samples_are_normalised() -> None:
    z, _ = two(64, 16)
    assert_allclose(cross_correlation(z, z).diagonal(), np.ones(16), atol=1e-4)
    rows = z / z.norm(dim=1, keepdim=True)
    assert_allclose((rows.T @ rows / 64).trace(), 1, rtol=1e-12)  # however alike the views are, 15 short of the identity's


def test_barlow_twins_ignores_scale_and_shift_of_a_dimension() -> None:
    z, z_prime = (100 * y for y in two(7, 4))
    stretched = z * double([1, 2, 3, 4]) + double([5, 6, 7, 8])
    assert_allclose(cross_correlation(stretched, z_prime), cross_correlation(z, z_prime), atol=1e-8)


def test_barlow_twins_correlates_the_first_view_along_rows_and_the_second_along_columns() -> None:
    z, z_prime = two(7, 4)
    assert_allclose(cross_correlation(z, z_prime).T, cross_correlation(z_prime, z), rtol=1e-12)
    assert not torch.allclose(cross_correlation(z, z_prime), cross_correlation(z_prime, z))


def test_barlow_twins_of_a_dead_dimension_is_finite_with_a_finite_gradient() -> None:
    z, z_prime = two(7, 4)
    z[:, 0] = 2.0
    z.requires_grad_()
    on_diagonal, off_diagonal = barlow_twins(z, z_prime)
    (on_diagonal + off_diagonal).backward()  # type: ignore[no-untyped-call]  # of torch
    assert on_diagonal >= 1
    assert z.grad is not None
    assert z.grad.isfinite().all()


def barlow(redundancy: float = 5e-3) -> BarlowTwins:
    method = on_points(BarlowTwins, BarlowTwinsConfig(hidden=32, output=16, redundancy=redundancy))
    assert isinstance(method, BarlowTwins)
    return method


def test_barlow_twins_weighs_redundancy() -> None:
    views, method = two_views(torch.Generator().manual_seed(0)), barlow(0.25)
    on_diagonal, off_diagonal = barlow_twins(*method.projector(method.encoder(torch.cat(views))).chunk(2))
    assert method(views, 0.5) == {"invariance": on_diagonal, "redundancy": 0.25 * off_diagonal}


def test_barlow_twins_with_invariance_alone_says_the_same_in_many_dimensions() -> None:
    def rank(method: BarlowTwins) -> float:
        learned(method)
        return centred_rank(nn.Sequential(method.encoder, method.projector).eval())

    assert rank(barlow(redundancy=0.0)) < 0.7 * rank(barlow())


# Precision


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "invariance": invariance,
    "variance": variance,
    "covariance": covariance,
    "barlow twins": lambda a, b: torch.stack(barlow_twins(a, b)),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in two(16, 12))
    expected = loss(a.float(), b.float())
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert torch.equal(computed, expected)
