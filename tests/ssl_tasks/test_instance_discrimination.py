"""Instance discrimination: the probabilities of a memory bank by formula, how the bank moves, and what is drawn."""

from typing import Any

import numpy as np
import pytest
import torch
from formulas import random, softmax, unit
from numpy.testing import assert_allclose
from small_methods import BATCH, CASES, ENCODERS
from test_every_method import images, step, views_of
from torch import Tensor
from torch.nn.functional import normalize

from schemas import methods as configs
from ssl_tasks import methods
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.neighbours import instance_softmax, proximal
from ssl_tasks.methods.contrastive.instance_discrimination import InstanceDiscrimination
from ssl_tasks.nn.encoder import TimmEncoder

COUNT = BATCH + 4


def made(**written: Any) -> InstanceDiscrimination:
    torch.manual_seed(0)
    config = configs.InstanceDiscrimination(**{"output": 32, "negatives": 20, **written})
    method = methods.build(config, TimmEncoder(ENCODERS["convnet"]), images=COUNT).train()
    assert isinstance(method, InstanceDiscrimination)
    return method


def sgd(method: InstanceDiscrimination, rate: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.SGD(method.parameters(), rate)


# Losses


def test_the_softmax_over_all_images_is_the_formula() -> None:
    v, bank, rows = random(4, 6), unit(random(11, 6)), torch.tensor([3, 0, 10, 3])
    p = softmax(unit(v) @ bank.T / 0.07)
    expected = -np.log(p[np.arange(4), rows.numpy()]).mean()
    assert_allclose(instance_softmax(v, torch.from_numpy(bank), rows, 0.07), expected, rtol=1e-12)


@pytest.mark.parametrize("count", [4, 8, 100])
def test_images_that_cannot_be_told_apart_cost_the_logarithm_of_their_number(count: int) -> None:
    bank = torch.ones(count, 5, dtype=torch.float64) / 5**0.5
    assert_allclose(instance_softmax(bank[:3], bank, torch.tensor([0, 1, 2]), 0.07), np.log(count), rtol=1e-12)


def test_the_proximal_term_is_the_squared_distance_to_what_the_bank_holds() -> None:
    v, before = random(4, 6), random(4, 6) + 1
    assert_allclose(proximal(v, torch.from_numpy(unit(before))), np.mean(np.sum((unit(v) - unit(before)) ** 2, axis=1)), rtol=1e-12)


def test_noise_contrastive_estimation_is_the_papers_with_z_of_the_first_batch() -> None:
    """Equations 5 to 8, of the numbers that the method itself drew, and the same Z at a second batch."""
    method = made(proximal=0.0).double()
    optimizer = sgd(method)
    first_z = 0.0
    for seed in range(2):
        crop, rows, drawn = views_of(method, seed)
        crop, bank = crop.double(), method.bank.rows.numpy().copy()
        with torch.no_grad():
            v = unit(method.head(method.encoder(crop)))
        method(([crop, rows, drawn]), 0.0)  # moves batch norm's running statistics alone, and Z at the first
        method._seen = None
        compared = np.concatenate([rows.numpy()[:, None], drawn.numpy()], axis=1)
        weights = np.exp(np.einsum("bd,bkd->bk", v, bank[compared]) / 0.07)
        first_z = first_z or COUNT * weights.mean()
        p, noise = weights / first_z, 20 / COUNT
        h = p / (p + noise)
        expected = -(np.log(h[:, 0]) + np.log(1 - h[:, 1:]).sum(axis=1)).mean()
        assert_allclose(step(method, optimizer, [crop, rows, drawn]), expected, rtol=1e-9)
        assert_allclose(method.normaliser.item(), first_z, rtol=1e-12)


def test_z_is_kept_in_the_state_and_not_estimated_by_looking() -> None:
    method = made().eval()
    method(views_of(method), 0.0)
    assert method.normaliser == 0
    method.train()(views_of(method), 0.0)
    assert method.state_dict()["normaliser"] > 0


# The bank


def test_a_row_moves_halfway_to_the_embedding_of_its_image_and_no_other_row_does() -> None:
    method = made()
    crop, _, drawn = views_of(method)
    rows = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))[:BATCH]
    before = method.bank.rows.clone()
    with torch.no_grad():
        v = normalize(method.head(method.encoder(crop)), dim=1)
    step(method, sgd(method), [crop, rows, drawn])
    torch.testing.assert_close(method.bank.rows[rows], normalize((before[rows] + v) / 2, dim=1))
    others = [row for row in range(COUNT) if row not in rows.tolist()]
    assert torch.equal(method.bank.rows[others], before[others])
    torch.testing.assert_close(method.bank.rows.norm(dim=1), torch.ones(COUNT))


def test_the_bank_moves_only_after_the_step_and_never_by_looking() -> None:
    method = made()
    before = method.bank.rows.clone()
    method(views_of(method), 0.0)
    assert torch.equal(method.bank.rows, before)
    method._seen = None
    method.eval()(views_of(method), 0.0)
    method.after_step(0.0)
    assert torch.equal(method.bank.rows, before)


def test_no_gradient_reaches_the_bank() -> None:
    method = made()
    assert not method.bank.rows.requires_grad
    assert "bank.rows" in method.state_dict()


# What is drawn


def test_negatives_are_drawn_evenly_from_all_images() -> None:
    method = made(negatives=4000)
    _, rows, drawn = views_of(method)
    assert torch.equal(rows, torch.arange(BATCH))
    assert drawn.shape == (BATCH, 4000)
    shares = torch.bincount(drawn.flatten(), minlength=COUNT) / drawn.numel()
    assert len(shares) == COUNT
    assert (shares * COUNT - 1).abs().max() < 0.1


def test_an_image_is_known_by_its_row_in_the_set_however_batches_are_shuffled() -> None:
    method = made()
    rows = torch.tensor([7, 2, 19, 4] * 4)
    draw = Draw(torch.Generator().manual_seed(0), BATCH, rows=rows)
    assert torch.equal(method.views(images(ENCODERS["convnet"]), draw)[1], rows)


def test_without_negatives_the_softmax_is_over_all_images() -> None:
    method = made(negatives=0)
    crop, rows, drawn = views_of(method)
    assert drawn.shape == (BATCH, 0)
    terms = method([crop, rows, drawn], 0.0)
    assert set(terms) == {"softmax"}
    v = method.head(method.encoder(crop))
    torch.testing.assert_close(terms["softmax"], instance_softmax(v, method.bank.rows, rows, 0.07))
    assert method.normaliser == 0


def test_the_proximal_term_is_weighted_and_may_be_left_out() -> None:
    heavy, none = made(), made(proximal=0.0)
    views = views_of(heavy)
    v = heavy.head(heavy.encoder(views[0]))
    terms: dict[str, Tensor] = heavy(views, 0.0)
    torch.testing.assert_close(terms["proximal"], 30 * proximal(v, heavy.bank.rows[views[1]]))
    assert set(none(views, 0.0)) == {"nce"}


def test_the_number_of_images_is_part_of_the_state() -> None:
    method = made()
    again = methods.restored(method.config.model_dump(), TimmEncoder(ENCODERS["convnet"]), method.state_dict())
    assert torch.equal(again.state_dict()["bank.rows"], method.bank.rows)
    assert CASES["instance_discrimination-vit"].config.takes == ("images",)
