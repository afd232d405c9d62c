"""The losses of SimCLR and MoCo against the papers' formulas in float64 NumPy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from formulas import double, moco_by_formula, moco_v3_by_formula, nt_xent_by_formula, random, two
from numpy.testing import assert_allclose
from torch import Tensor
from torch.nn.functional import normalize

from ssl_tasks.losses.contrastive import moco, moco_v3, nt_xent


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # of torch


PLANE = double([[1, 0], [0, 1]]), double([[0.8, 0.6], [-0.6, 0.8]])
"""Two images, two views of each."""


# NT-Xent


@pytest.mark.parametrize("decoupled", [False, True], ids=["NT-Xent", "DCL"])
@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_nt_xent_is_the_papers_equation(tau: float, decoupled: bool) -> None:
    z, z_prime = two(6, 5)
    assert_allclose(nt_xent(z, z_prime, tau, decoupled=decoupled), nt_xent_by_formula(z, z_prime, tau, decoupled).mean(), rtol=1e-12)


@pytest.mark.parametrize(("images", "expected"), [(2, 1.098612), (4, 1.945910), (256, 6.23636959)])
def test_nt_xent_of_equal_embeddings_is_the_logarithm_of_the_candidates(images: int, expected: float) -> None:
    z = torch.ones(images, 3, dtype=torch.float64)
    assert_allclose(nt_xent(z, z, 0.1), math.log(2 * images - 1), rtol=1e-12)
    assert_allclose(nt_xent(z, z, 0.1), expected, atol=1e-6)
    assert_allclose(nt_xent(z, z, 0.1, decoupled=True), math.log(2 * images - 2), rtol=1e-12)


@pytest.mark.parametrize(("images", "expected"), [(2, 0.239545), (4, 0.594438)])
def test_nt_xent_of_orthogonal_images(images: int, expected: float) -> None:
    z = torch.eye(images, dtype=torch.float64)
    assert_allclose(nt_xent(z, z, 0.5), math.log(1 + (2 * images - 2) * math.exp(-1 / 0.5)), rtol=1e-12)
    assert_allclose(nt_xent(z, z, 0.5), expected, atol=1e-6)
    assert_allclose(nt_xent(z, z, 0.5, decoupled=True), math.log(2 * images - 2) - 1 / 0.5, rtol=1e-12)


@pytest.mark.parametrize(("tau", "expected"), [(0.5, 0.430190), (0.1, 0.063780)])
def test_nt_xent_of_two_pairs_in_the_plane(tau: float, expected: float) -> None:
    assert_allclose(nt_xent(*PLANE, tau), expected, atol=1e-6)


def test_nt_xent_differs_between_the_two_directions_of_a_pair() -> None:
    first_of_all = nt_xent(PLANE[0][:1], PLANE[1][:1], 0.5, PLANE)
    assert_allclose(first_of_all, (0.233258 + 0.627123) / 2, atol=1e-6)


def test_nt_xent_ignores_the_length_of_embeddings() -> None:
    z, z_prime = two(4, 3)
    assert_allclose(nt_xent(3 * z, z_prime / 7, 0.2), nt_xent(z, z_prime, 0.2), rtol=1e-12)


@pytest.mark.parametrize("decoupled", [False, True], ids=["NT-Xent", "DCL"])
def test_nt_xent_of_parts_averages_to_that_of_the_whole_batch(decoupled: bool) -> None:
    z, z_prime = two(6, 5)
    parts = [nt_xent(z[i : i + 2], z_prime[i : i + 2], 0.2, (z, z_prime), i, decoupled) for i in (0, 2, 4)]
    assert_allclose(np.mean(parts), nt_xent(z, z_prime, 0.2, decoupled=decoupled), rtol=1e-12)


def test_a_pair_that_is_close_already_pushes_less_in_nt_xent_and_as_hard_as_ever_when_decoupled() -> None:
    """The gradients differ by the factor 1 - p of each anchor, p being what its softmax gives the positive (DCL, proposition 1)."""
    gradients = []
    for decoupled in (False, True):
        z = torch.eye(4, dtype=torch.float64, requires_grad=True)
        backward(nt_xent(z, torch.eye(4, dtype=torch.float64), 0.2, decoupled=decoupled))
        assert z.grad is not None
        gradients.append(z.grad)
    p = math.exp(1 / 0.2) / (math.exp(1 / 0.2) + 6)
    assert gradients[1].abs().max() > 0.1
    assert_allclose(gradients[0], (1 - p) * gradients[1], rtol=1e-12, atol=1e-15)


# MoCo's and MoCo v3's loss


@pytest.mark.parametrize("tau", [0.07, 0.2, 1.0])
def test_moco_is_the_papers_equation(tau: float) -> None:
    (q, k), queue = two(6, 5), normalize(random(9, 5), dim=1)
    assert_allclose(moco(q, k, queue, tau), moco_by_formula(q, k, queue, tau), rtol=1e-12)


@pytest.mark.parametrize(("tau", "expected"), [(0.07, 0.040135), (0.2, 6.092617)])
def test_moco_of_a_query_on_its_key_and_across_the_queue(tau: float, expected: float) -> None:
    q, queue = double([[1, 0]]), double([[0, 1]]).expand(65536, 2)
    assert_allclose(moco(q, q, queue, tau), expected, atol=1e-6)
    assert_allclose(moco(q, q, queue, tau), math.log(1 + 65536 * math.exp(-1 / tau)), atol=1e-12)


def test_moco_of_equal_embeddings_is_the_logarithm_of_the_candidates() -> None:
    q = double([[1, 0]])
    assert_allclose(moco(q, q, q.expand(65536, 2), 0.07), 11.09037015, atol=1e-8)


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_moco_v3_is_the_papers_algorithm(tau: float) -> None:
    q, k = two(6, 5)
    assert_allclose(moco_v3(q, k, tau), moco_v3_by_formula(q, k, tau), rtol=1e-12)


@pytest.mark.parametrize(("tau", "expected"), [(0.2, 0.008005), (1.0, 1.487337)])
def test_moco_v3_of_four_orthogonal_images(tau: float, expected: float) -> None:
    z = torch.eye(4, dtype=torch.float64)
    assert_allclose(moco_v3(z, z, tau), expected, atol=1e-6)


def test_moco_v3_of_parts_averages_to_that_of_the_whole_batch() -> None:
    q, k = two(6, 5)
    assert_allclose(np.mean([moco_v3(q[i : i + 2], k, 0.2, i) for i in (0, 2, 4)]), moco_v3(q, k, 0.2), rtol=1e-12)


def test_queries_and_keys_may_have_any_length() -> None:
    (q, k), queue = two(4, 3), normalize(random(7, 3), dim=1)
    assert_allclose(moco(3 * q, k / 7, queue, 0.2), moco(q, k, queue, 0.2), rtol=1e-12)
    assert_allclose(moco_v3(3 * q, k / 7, 0.2), moco_v3(q, k, 0.2), rtol=1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.1),
    "dcl": lambda a, b: nt_xent(a, b, 0.1, decoupled=True),
    "moco": lambda a, b: moco(a, b, b, 0.07),
    "moco_v3": lambda a, b: moco_v3(a, b, 0.2),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in two(16, 12))
    expected = loss(a.float(), b.float())
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert computed == expected
