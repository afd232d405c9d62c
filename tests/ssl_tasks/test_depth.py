"""Depth by a linear head: loss and errors against their formulas, and what a planted encoder reaches."""

import numpy as np
import pytest
import torch
from colour_world import DEPTHS, METRES, ColourWorld, Planted
from small_world import protocol

from ssl_tasks.evaluate.dense.depth import errors, expected, judge, within
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.losses.depth import scale_invariant_log


class TestLoss:
    def test_it_is_the_formula(self) -> None:
        random = np.random.default_rng(0)
        predicted, target = random.uniform(0.5, 9, (2, 2, 6, 7))
        valid = random.random((2, 6, 7)) < 0.7
        g = np.log(predicted[valid] + 0.001) - np.log(target[valid] + 0.001)
        variance = np.mean(g**2) - np.mean(g) ** 2
        tensors = torch.from_numpy(predicted), torch.from_numpy(target), torch.from_numpy(valid)
        assert scale_invariant_log(*tensors).item() == pytest.approx(np.sqrt(variance + 0.15 * np.mean(g) ** 2), rel=1e-9)
        assert scale_invariant_log(*tensors, spread=False).item() == pytest.approx(np.sqrt(0.15) * abs(np.mean(g)), rel=1e-9)

    def test_a_wrong_scale_costs_its_logarithm_and_a_perfect_prediction_nothing(self) -> None:
        target = torch.rand(1, 8, 8, dtype=torch.float64) + 100
        valid = torch.ones(1, 8, 8, dtype=torch.bool)
        assert scale_invariant_log(2 * target, target, valid).item() == pytest.approx(np.sqrt(0.15) * np.log(2), rel=1e-4)
        perfect = target.clone().requires_grad_()
        value = scale_invariant_log(perfect, target, valid)
        value.backward()
        assert value.item() < 1e-5
        assert torch.equal(perfect.grad, torch.zeros_like(target))

    def test_where_no_pixel_is_known_there_is_no_loss(self) -> None:
        predicted = torch.ones(1, 4, 4, requires_grad=True)
        value = scale_invariant_log(predicted, torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool))
        value.backward()
        assert value.item() == 0
        assert not predicted.grad.any()


def test_a_depth_is_the_mean_of_the_bins_under_the_heads_weights() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 7, 3, 3))
    weights = np.maximum(logits, 0) + 0.1
    centres = np.array([1 + 9 * i / 6 for i in range(7)])
    wanted = (weights * centres[:, None, None]).sum(1) / weights.sum(1)
    assert expected(torch.from_numpy(logits).float(), 1, 10)[:, 0].numpy() == pytest.approx(wanted, rel=1e-5)
    assert expected(torch.full((1, 256, 1, 1), -3.0), 0.001, 10).item() == pytest.approx(5.0005)


class TestErrors:
    everywhere = np.ones((4, 4), bool)

    def test_a_perfect_prediction_has_none(self) -> None:
        truth = np.random.default_rng(0).uniform(1, 9, (4, 4))
        assert errors(truth, truth, self.everywhere) == (0, 0, 1)

    def test_a_constant_prediction_has_those_of_arithmetic(self) -> None:
        truth = np.array([[2.0] * 4, [4.0] * 4, [4.5] * 4, [8.0] * 4])
        rmse, relative, close = errors(np.full((4, 4), 4.0), truth, self.everywhere)
        assert rmse == pytest.approx(np.sqrt((4 + 0 + 0.25 + 16) / 4))
        assert relative == pytest.approx((1 + 0 + 0.5 / 4.5 + 0.5) / 4)
        assert close == 0.5

    def test_exactly_a_quarter_too_far_is_not_close(self) -> None:
        assert errors(np.full((4, 4), 5.0), np.full((4, 4), 4.0), self.everywhere)[2] == 0

    def test_unknown_pixels_and_those_beyond_the_limits_do_not_count(self) -> None:
        truth = np.array([[0, 0.5, 2, 11]], np.float32)
        assert within(truth, 1, 10).tolist() == [[False, False, True, False]]
        assert errors(np.array([[7, 7, 2, 7]]), truth, within(truth, 1, 10)) == (0, 0, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ColourWorld:
    return ColourWorld(tmp_path_factory.mktemp("colours"))


SETTINGS = {"annotations": DEPTHS, "steps": 120, "batch_size": 8, "learning_rate": 0.1, "bins": 16}


def test_an_encoder_that_tells_the_depth_beats_a_constant_by_far(world: ColourWorld) -> None:
    rmse, relative, close, _ = judge(protocol("depth", **SETTINGS), world.seen_by(Planted()))
    assert [rmse.metric, relative.metric, close.metric] == ["rmse", "abs_rel", "delta1"]
    best_constant = METRES.std()  # each colour is as frequent as the others
    assert rmse.values[0] < 0.5 * best_constant
    assert close.values[0] > 0.8
    for number in (rmse, relative, close):
        assert number.items is not None
        assert (number.n, len(number.items)) == (8, 8)
        assert number.values[0] == pytest.approx(number.items.mean())


def test_depths_in_the_wrong_unit_are_told(world: ColourWorld) -> None:
    with pytest.raises(Skipped, match=r"no test image has a depth between 0\.001 and 10 m: mend `nearest`, `farthest` or `annotations\.metre`"):
        apply(protocol("depth", **{**SETTINGS, "steps": 2, "annotations": {**DEPTHS, "metre": 1.0}}), world.subject("vit"))
