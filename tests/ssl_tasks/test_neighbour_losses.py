"""Losses of NNCLR, MSF and CLSA by formula, and what their gradients do not reach."""

import numpy as np
import pytest
import torch
from formulas import double, random, softmax, two, unit
from numpy.testing import assert_allclose
from torch import Tensor

from ssl_tasks.losses.neighbours import across_views, divergence, mean_shift
from ssl_tasks.losses.prediction import byol


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # of torch


def test_contrast_across_views_is_the_formula_with_the_other_view_alone_as_candidates() -> None:
    anchors, candidates = two(5, 7)
    a, c = unit(anchors), unit(candidates)
    by_formula = -np.mean([np.log(np.exp(a[i] @ c[i] / 0.1) / sum(np.exp(a[i] @ c[k] / 0.1) for k in range(5))) for i in range(5)])
    assert_allclose(across_views(anchors, candidates, 0.1), by_formula, rtol=1e-12)
    shares = [across_views(anchors[rows], candidates, 0.1, rows.start) * (rows.stop - rows.start) / 5 for rows in (slice(0, 2), slice(2, 5))]
    assert_allclose(sum(shares), by_formula, rtol=1e-12)


@pytest.mark.parametrize("images", [4, 8, 100])
def test_contrast_across_views_that_cannot_tell_images_apart_costs_the_logarithm_of_their_number(images: int) -> None:
    same = torch.ones(images, 3, dtype=torch.float64)
    assert_allclose(across_views(same, same, 0.1), np.log(images), rtol=1e-12)


def test_contrast_across_views_of_an_identity_is_that_of_moco_v3() -> None:
    """.008005 at temperature .2 is 2 tau times the cross-entropy."""
    identity = torch.eye(4, dtype=torch.float64)
    assert_allclose(2 * 0.2 * across_views(identity, identity, 0.2), 0.008005, atol=5e-7)
    assert_allclose(2 * across_views(identity, identity, 1.0), 1.487337, atol=5e-7)


def test_mean_shift_is_the_mean_squared_distance_to_the_neighbours() -> None:
    predicted, neighbours = random(4, 6), random(4, 3, 6)
    p = unit(predicted)
    each = [[np.sum((p[b] - n / np.linalg.norm(n)) ** 2) for n in neighbours[b].numpy()] for b in range(4)]
    assert_allclose(mean_shift(predicted, neighbours), np.mean(each), rtol=1e-12)
    target = random(4, 6)
    assert_allclose(mean_shift(predicted, target[:, None]), byol(predicted, target), rtol=1e-12)  # k = 1: BYOL


def test_a_mean_shift_of_345_to_its_mirror_is_that_of_byol() -> None:
    assert_allclose(mean_shift(double([[3, 4]]), double([[[4, 3]]])), 0.08, rtol=1e-12)


def test_the_divergence_of_strong_views_has_the_direction_of_the_paper() -> None:
    weak, strong, bank = double([[1, 0.2, 0]]), double([[0.6, 0.6, 0.2]]), torch.eye(3, dtype=torch.float64)
    assert_allclose(divergence(strong, weak, bank[:1], bank[1:], 0.2), 0.621042, atol=5e-7)
    assert_allclose(divergence(weak, strong, bank[:1], bank[1:], 0.2), 1.276763, atol=5e-7)  # the other way round


def test_the_divergence_of_strong_views_is_the_formula() -> None:
    strong, weak, keys, queue = random(3, 5), random(3, 5) + 1, random(3, 5) - 1, torch.from_numpy(unit(random(9, 5)))
    p, q = (softmax(np.concatenate([np.sum(unit(z) * unit(keys), axis=1)[:, None], unit(z) @ queue.numpy().T], axis=1) / 0.2) for z in (weak, strong))
    assert_allclose(divergence(strong, weak, keys, queue, 0.2), np.mean(np.sum(p * np.log(p / q), axis=1)), rtol=1e-12)
    assert_allclose(divergence(weak, weak, keys, queue, 0.2), 0, atol=1e-12)


def test_no_gradient_of_the_divergence_reaches_the_weak_view_and_the_keys() -> None:
    strong, weak, keys = (random(3, 5).add(i).requires_grad_() for i in range(3))
    backward(divergence(strong, weak, keys, torch.from_numpy(unit(random(9, 5))), 0.2))
    assert strong.grad is not None
    assert strong.grad.any()
    assert weak.grad is None
    assert keys.grad is None
