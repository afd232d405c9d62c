"""W-MSE: whitening and its loss against the paper's formulas, what a collapsed batch comes to, and settings that cannot be."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, random, two, unit
from numpy.testing import assert_allclose
from planted import centred_rank, learned, on_points, two_views
from pydantic import TypeAdapter, ValidationError
from small_methods import BATCH, CASES
from test_every_method import views_of
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import WMSE as WMSEConfig
from schemas.stages import Pretrain
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.whitening import w_mse, whitened
from ssl_tasks.method import Method, Terms
from ssl_tasks.methods.decorrelation.w_mse import WMSE


def whitened_by_formula(z: Matrix) -> Matrix:
    """Equation 8 of https://arxiv.org/abs/2007.06346 with loops: W^T W is the inverse of the covariance, W lower triangular."""
    v = z - z.mean(axis=0)
    covariance = sum(np.outer(row, row) for row in v) / (len(v) - 1)
    d = z.shape[1]
    root = np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1):
            left = covariance[i, j] - sum(root[i, k] * root[j, k] for k in range(j))
            root[i, j] = math.sqrt(left) if i == j else left / root[j, j]
    return v @ np.linalg.inv(root).T


def test_whitening_is_the_papers_equation() -> None:
    z = random(20, 5) @ random(5, 5) + 3
    assert_allclose(whitened(z), whitened_by_formula(z.numpy()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("samples", "dimensions"), [(9, 8), (64, 8), (300, 40)])
def test_whitened_samples_have_mean_zero_and_the_identity_as_covariance(samples: int, dimensions: int) -> None:
    z = random(samples, dimensions) @ torch.diag(torch.logspace(-2, 2, dimensions, dtype=torch.float64)) + 5
    white = whitened(z).numpy()
    assert_allclose(white.mean(axis=0), 0, atol=1e-6)
    assert_allclose(np.cov(white, rowvar=False), np.eye(dimensions), atol=1e-6)


def test_whitening_undoes_every_change_that_is_linear_but_for_a_rotation() -> None:
    z = random(30, 4)
    mixed = z @ random(4, 4)
    first, second = whitened(z), whitened(mixed)
    assert_allclose(first @ first.T, second @ second.T, atol=1e-8)


def test_the_loss_is_the_mean_squared_distance_of_whitened_unit_vectors_over_pairs_of_views_and_slices() -> None:
    views = list(random(3, 24, 5))
    slices = [torch.arange(24)[start::2] for start in range(2)]
    expected = []
    for slice in slices:
        white = [unit(torch.from_numpy(whitened_by_formula(z[slice].numpy()))) for z in views]
        for i in range(3):
            for j in range(i + 1, 3):
                expected.append(np.mean([2 - 2 * float(a @ b) for a, b in zip(white[i], white[j], strict=True)]))
    assert_allclose(w_mse(views, slices), np.mean(expected), rtol=1e-9)


def test_equal_views_have_no_loss_and_unlike_ones_two() -> None:
    z = random(40, 6)
    slices = [torch.arange(40)]
    assert_allclose(w_mse([z, z], slices), 0, atol=1e-12)
    first, second = two(4000, 6)
    assert_allclose(w_mse([first, second], [torch.arange(4000)]), 2, atol=0.1)


def test_shrinking_embeddings_to_a_point_lowers_nothing() -> None:
    """The way out of a plain distance: here the loss is that of the noise that is left, the same at every size."""
    z, z_prime = two(40, 6)
    slices = [torch.arange(40)]
    point = random(6)
    losses = [float(w_mse([point + size * z, point + size * z_prime], slices)) for size in (1.0, 1e-3, 1e-6)]
    assert_allclose(losses, losses[0], rtol=1e-4)
    assert losses[0] > 1
    plain = [float((size * (z - z_prime)).square().mean()) for size in (1.0, 1e-6)]
    assert plain[1] < 1e-9 * plain[0]


def test_embeddings_that_say_one_thing_in_all_dimensions_are_not_whitened_to_agreement() -> None:
    """What two views agree on is one line; whitening blows up what they do not agree on until it counts as much."""
    z, z_prime = two(200, 6)
    said = random(200, 1) @ random(1, 6)
    collapsed = float(w_mse([said + 1e-4 * z, said + 1e-4 * z_prime], [torch.arange(200)]))
    spread = random(200, 6)
    assert collapsed > 1
    assert float(w_mse([spread + 1e-4 * z, spread + 1e-4 * z_prime], [torch.arange(200)])) < 1e-6


def test_a_share_of_the_identity_whitens_what_has_no_spread() -> None:
    flat = random(20, 1) @ random(1, 6)
    with pytest.raises(torch.linalg.LinAlgError):
        whitened(flat)
    assert whitened(flat, epsilon=0.01).isfinite().all()


def test_every_image_is_in_one_slice_of_each_cutting_and_cuttings_differ() -> None:
    method = made(iterations=3, slice_size=7)
    places = views_of(method)[-1]
    slices = method._slices(places)
    assert places.shape == (BATCH, 3)
    assert [len(slice) for slice in slices] == [8, 8] * 3
    for cutting in range(3):
        assert sorted(torch.cat(slices[2 * cutting : 2 * cutting + 2]).tolist()) == list(range(BATCH))
    assert len({frozenset(slice.tolist()) for slice in slices[::2]}) == 3


def made(**settings: float) -> WMSE:
    case = CASES["w_mse-vit"]
    method = replace(case, config=case.config.model_copy(update=settings)).make()
    assert isinstance(method, WMSE)
    return method


def test_a_batch_that_is_smaller_than_a_slice_is_refused() -> None:
    method = made(slice_size=BATCH + 1)
    with pytest.raises(UserError, match=r"w_mse whitens slices of 17 images, and a batch has 16: raise train\.batch_size, or lower method\.slice_size"):
        method(views_of(method), 0.5)


def test_a_batch_whose_images_all_say_the_same_is_refused_rather_than_trained_on() -> None:
    method = made()
    views = [view if view.dtype == torch.long else torch.zeros_like(view) for view in views_of(method)]
    with pytest.raises(UserError, match=r"span fewer than method\.dimension 6 dimensions and cannot be whitened: lower it, or set method\.epsilon"):
        method(views, 0.5)


def test_settings_that_cannot_be_white_are_refused() -> None:
    with pytest.raises(ValidationError, match="64 embeddings cannot be white in 64 dimensions: set slice_size above dimension, such as to 128"):
        WMSEConfig(slice_size=64)
    for views in (Views(count=1), Views(count=2, local_count=2)):
        with pytest.raises(ValidationError, match="this method compares global crops"):
            WMSEConfig(views=views)
    assert WMSEConfig(views=Views(count=4)).views.count == 4


def test_a_stage_whose_batch_is_smaller_than_a_slice_is_refused() -> None:
    stage = {"kind": "pretrain", "dataset": "raw", "encoder": {"name": "resnet18"}, "method": {"kind": "w_mse"}}
    assert TypeAdapter(Pretrain).validate_python({**stage, "train": {"batch_size": 128}})
    with pytest.raises(ValidationError, match=r"slices of 128 images, more than the 64 of a batch: raise batch_size, or lower method\.slice_size"):
        TypeAdapter(Pretrain).validate_python({**stage, "train": {"batch_size": 64}})


class OfPoints(Method):
    """W-MSE that draws its cuttings for points, which have no crops."""

    def __init__(self, whitening: bool) -> None:
        super().__init__()
        self.inner: Any = on_points(WMSE, WMSEConfig(hidden=32, dimension=8, slice_size=32))
        self.whitening = whitening

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        raise NotImplementedError

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        if self.whitening:
            cut = torch.randperm(len(views[0]), generator=torch.Generator().manual_seed(int(1000 * progress)))
            named: Terms = self.inner([*views, cut[:, None]], progress)
            return named
        z, z_prime = self.inner.projector(self.inner.encoder(torch.cat(views))).chunk(2)
        return {"mse": (z - z_prime).square().sum(dim=1).mean()}

    def exported(self) -> nn.Module:
        exported: nn.Module = self.inner.exported()
        return exported


def test_without_whitening_points_collapse_and_with_it_they_spread_over_all_dimensions() -> None:
    found = {}
    for whitening in (True, False):
        method = OfPoints(whitening)
        losses = learned(method, steps=150)
        network = nn.Sequential(method.inner.encoder, method.inner.projector).eval()
        with torch.no_grad():
            spread = float(network(two_views(torch.Generator().manual_seed(2))[0]).std(dim=0).mean())
        found[whitening] = losses, spread, centred_rank(network)
    losses, spread, rank = found[True]
    assert losses[-1] < 0.7 * losses[0]
    assert spread > 10 * found[False][1]
    assert rank > 4
