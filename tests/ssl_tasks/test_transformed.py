"""PIRL and E-SSL: losses by the papers' equations, what is remembered of an image, and what is turned."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from formulas import double, nt_xent_by_formula, random, softmax
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError
from small_methods import ENCODERS
from tiny_training import make
from torch import Tensor
from torch.nn.functional import normalize

from schemas import methods as configs
from schemas.encoders import Encoder
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.nce import pirl_nce


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # of torch


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 1, 18, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def views(method: Any, count: int, rows: Tensor | None = None, seed: int = 0) -> Any:
    viewed = method.views(images(count), Draw(torch.Generator().manual_seed(seed), count, rows=rows))
    return [view.double() if view.is_floating_point() else view for view in viewed]


def pirl(encoder: Encoder = ENCODERS["convnet"], **changes: Any) -> Any:
    return make(configs.PIRL(**{"output": 8, "negatives": 20, **changes}), encoder).double().train()


def essl(**changes: Any) -> Any:
    return make(configs.ESSL(**{"hidden": 16, "output": 8, **changes}), ENCODERS["convnet"]).double().train()


# PIRL's loss


def nce_by_formula(positive: NDArray[np.float64], negatives: NDArray[np.float64], tau: float) -> float:
    """Equations 3 and 4 of https://arxiv.org/abs/1912.01991 with loops."""
    losses = []
    for own, others in zip(positive, negatives, strict=True):

        def h(s: float, others: NDArray[np.float64] = others) -> float:
            return float(np.exp(s / tau) / (np.exp(s / tau) + sum(np.exp(other / tau) for other in others)))

        losses.append(-np.log(h(own)) - sum(np.log(1 - h(other)) for other in others))
    return float(np.mean(losses))


@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_nce_is_the_papers_equation(tau: float) -> None:
    positive, negatives = torch.tanh(random(6)), torch.tanh(random(6, 11))
    assert_allclose(pirl_nce(positive, negatives, tau), nce_by_formula(positive.numpy(), negatives.numpy(), tau), rtol=1e-10)


@pytest.mark.parametrize("count", [1, 20, 32000])
def test_nce_of_a_collapse_hangs_on_the_number_of_negatives_alone(count: int) -> None:
    loss = pirl_nce(torch.ones(2, dtype=torch.float64), torch.ones(2, count, dtype=torch.float64), 0.07)
    assert_allclose(loss, math.log(1 + count) + count * math.log(1 + 1 / count), rtol=1e-12)
    spread = pirl_nce(torch.ones(2, dtype=torch.float64), torch.zeros(2, count, dtype=torch.float64), 0.07)
    assert spread < loss - 0.6


def test_the_memory_of_an_image_draws_and_those_of_others_push() -> None:
    """However near a negative is, and however well the positive is found."""
    for closeness in (-0.5, 0.0, 0.9):
        positive = double([closeness]).requires_grad_()
        negatives = double([[0.95, 0.5, 0.0, -0.7]]).requires_grad_()
        backward(pirl_nce(positive, negatives, 0.07))
        assert positive.grad is not None
        assert negatives.grad is not None
        assert (positive.grad < 0).all()
        assert (negatives.grad > 0).all()


def test_losses_of_extreme_similarities_are_finite() -> None:
    positive, negatives = torch.tensor([-1.0], requires_grad=True), torch.ones(1, 5, requires_grad=True)
    loss = pirl_nce(positive, negatives, 1e-3)
    backward(loss)
    assert_allclose(loss.item(), 2000 + math.log(5) + 5 * math.log(1.2), rtol=1e-5)
    assert positive.grad is not None
    assert positive.grad.isfinite().all()


# PIRL's memory


@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_pirl_tells_an_image_and_its_tiles_from_what_is_remembered_of_others(weight: float) -> None:
    """Equation 5."""
    method = pirl(ENCODERS["vit"], jigsaw=weight).eval()
    whole, second, tiles, rows, drawn = views(method, 6, torch.tensor([3, 0, 79, 40, 41, 5]))
    f = normalize(method.head(method.encoder(whole)), dim=1).detach().numpy()
    parts = [method.branch(method.encoder(tiles[:, i])) for i in range(9)]
    g = normalize(method.together(torch.cat(parts, dim=1)), dim=1).detach().numpy()
    memory = method.bank.rows.numpy()
    named = method([whole, second, tiles, rows, drawn], 0.5)
    for name, anchors, share in (("jigsaw", g, weight), ("image", f, 1 - weight)):
        positive = (anchors * memory[rows]).sum(axis=1)
        negatives = np.einsum("bd,bkd->bk", anchors, memory[drawn])
        assert_allclose(named[name].detach(), share * nce_by_formula(positive, negatives, 0.07), rtol=1e-8)


def test_an_image_is_never_its_own_negative_and_every_other_one_may_be() -> None:
    method = pirl(negatives=70)
    *_, rows, drawn = views(method, 80, torch.arange(80))
    assert drawn.shape == (80, 70)
    assert not (drawn == rows[:, None]).any()
    assert set(drawn.flatten().tolist()) == set(range(80))
    assert views(pirl(negatives=32000), 4)[-1].shape == (4, 79), "as many as there are others"


def test_only_what_was_seen_is_remembered_anew_and_after_the_step() -> None:
    method = pirl(bank_momentum=0.75)
    before = method.bank.rows.clone()
    given = views(method, 4, torch.tensor([9, 1, 30, 2]))
    method(given, 0.5)
    assert torch.equal(method.bank.rows, before)
    f = normalize(method.head(method.encoder(given[0])), dim=1).detach()
    method.after_step(0.5)
    mixed = 0.75 * before[[9, 1, 30, 2]] + 0.25 * f
    assert_allclose(method.bank.rows[[9, 1, 30, 2]], normalize(mixed, dim=1), rtol=1e-8)
    others = [row for row in range(80) if row not in (9, 1, 30, 2)]
    assert torch.equal(method.bank.rows[others], before[others])
    moved = method.bank.rows.clone()
    method.after_step(0.5)
    assert torch.equal(method.bank.rows, moved)


def test_tiles_of_pirl_come_in_an_order_drawn_for_each_image() -> None:
    """Each cell of the image is of one brightness, by which the tile is known."""
    method = pirl(views={"scale": [1, 1], "ratio": [1, 1], "flip": 0, "jitter": 0, "grey": 0, "blur": 0})
    sides = torch.tensor([5, 5, 6])
    image = torch.arange(9, dtype=torch.uint8).mul(28).view(3, 3).repeat_interleave(sides, 0).repeat_interleave(sides, 1)
    tiles = method.views(image.expand(50, 1, 16, 16), Draw(torch.Generator().manual_seed(0), 50))[2]
    order = ((tiles.mean(dim=(2, 3, 4)) * 0.5 + 0.5) * 255 / 28).round().long()
    assert (order.sort(dim=1).values == torch.arange(9)).all()
    assert len(order.unique(dim=0)) == 50


# E-SSL


@pytest.mark.parametrize("weight", [0.4, 2.0])
def test_essl_adds_the_weighed_cross_entropy_of_turns_to_simclr(weight: float) -> None:
    method = essl(rotation=weight)
    first, second, small = views(method, 4)
    assert (first.shape[-1], small.shape[-1]) == (16, 8)
    named = method([first, second, small], 0.5)
    z, z_prime = method.projector(method.encoder(torch.cat([first, second]))).chunk(2)
    assert_allclose(named["nt_xent"].detach(), nt_xent_by_formula(z, z_prime, 0.1).mean(), rtol=1e-10)
    turned = torch.from_numpy(np.concatenate([np.rot90(small.numpy(), k, axes=(2, 3)) for k in range(4)]))
    p = softmax(method.predictor(method.encoder(turned)).detach().numpy())
    assert_allclose(named["rotation"].detach(), -weight * np.mean([np.log(p[i, i // 4]) for i in range(16)]), rtol=1e-10)


def test_without_small_crops_the_first_crop_is_turned() -> None:
    method = essl(views={"local_count": 0})
    first, second = views(method, 4)
    assert_allclose(method([first, second], 0.5)["rotation"].detach(), essl()([first, second, first], 0.5)["rotation"].detach(), rtol=1e-12)


def test_contrast_trains_no_predictor_and_turns_train_no_projector() -> None:
    method = essl()
    for term, untouched, trained in (("nt_xent", method.predictor, method.projector), ("rotation", method.projector, method.predictor)):
        method.zero_grad()
        backward(method(views(method, 4), 0.5)[term])
        assert all(p.grad is None for p in untouched.parameters())
        assert all(p.grad is not None for p in [*trained.parameters(), *method.encoder.parameters()])


def test_turns_at_chance_cost_the_logarithm_of_four() -> None:
    method = essl(rotation=1.0)
    torch.nn.init.zeros_(method.predictor[-1].weight)
    torch.nn.init.zeros_(method.predictor[-1].bias)
    assert_allclose(method(views(method, 4), 0.5)["rotation"].item(), 1.38629436, rtol=1e-8)


@pytest.mark.parametrize(("member", "wrong"), [(configs.PIRL, {"count": 1}), (configs.PIRL, {"count": 2, "local_count": 1}), (configs.ESSL, {"count": 3})])
def test_views_without_a_pair_are_refused(member: Any, wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="this method compares two global crops"):
        member(views=wrong)
