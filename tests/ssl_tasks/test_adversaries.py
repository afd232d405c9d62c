"""AdCo: the negatives move up the loss that the encoder goes down."""

from typing import Any

import numpy as np
import pytest
import torch
from formulas import random, unit
from numpy.testing import assert_allclose
from small_methods import BATCH, CASES
from test_every_method import views_of
from torch import Tensor
from torch.nn.functional import normalize

from ssl_tasks.losses.contrastive import moco
from ssl_tasks.methods.contrastive.adco import AdCo


def made(**changes: float) -> AdCo:
    """In float64."""
    case = CASES["adco-convnet"]
    torch.manual_seed(0)
    method: Any = type(case)(case.config.model_copy(update={"momentum": 1.0, **changes}), case.encoder).make().double()
    method.negatives.rows.copy_(normalize(method.negatives.rows, dim=1))
    return method  # type: ignore[no-any-return]  # the registry is untyped


def views(method: AdCo) -> list[Tensor]:
    return [view.double() for view in views_of(method)]


def filled(method: AdCo) -> AdCo:
    """With negatives near to what it says of images."""
    keys = method.key_head(method.key_encoder(views(method)[1]))
    near = keys[torch.arange(20) % len(keys)] + 0.3 * keys.norm(dim=1).mean() * random(20, keys.shape[1]) / keys.shape[1] ** 0.5
    method.negatives.push(normalize(near, dim=1))
    return method


def test_the_gradient_of_the_negatives_is_the_papers() -> None:
    """Equation 5 along the sphere: a mean over queries of p(n | q) (q - (q.n) n) / tau, for p the negative's share of the softmax."""
    method = made()
    q, k, n = unit(random(5, 32)), unit(random(5, 32) + 1), method.negatives.rows.numpy()
    logits = np.concatenate([np.sum(q * k, axis=1)[:, None], q @ n.T], axis=1) / 0.02
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = (e / e.sum(axis=1, keepdims=True))[:, 1:]
    expected = np.einsum("bk,bkd->kd", p, q[:, None] - (q @ n.T)[:, :, None] * n) / 5 / 0.02
    assert_allclose(method.uphill(torch.from_numpy(q), torch.from_numpy(k)), expected, rtol=1e-8, atol=1e-12)


def test_the_encoder_goes_down_and_the_negatives_go_up_the_same_loss() -> None:
    """One small step of each alone, at one temperature: the loss with the new encoder is lower, with the new negatives higher."""
    method = filled(made(negatives_rate=0.02, negatives_temperature=0.12)).train()
    seen = views(method)
    before = method(seen, 0.5)["info_nce"]
    weights, old = {name: p.detach().clone() for name, p in method.named_parameters()}, method.negatives.rows.clone()
    torch.autograd.backward(before)
    torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 1e-3).step()
    method.after_step(0.5)
    new = method.negatives.rows.clone()
    method.negatives.rows.copy_(old)
    assert method(seen, 0.5)["info_nce"] < before
    method.load_state_dict({**method.state_dict(), **weights})
    method.negatives.rows.copy_(new)
    assert method(seen, 0.5)["info_nce"] > before
    assert not torch.equal(new, old)


def test_negatives_close_in_on_queries() -> None:
    """With the rate that fits so few: a negative is pulled by its share of the softmax."""
    method = filled(made(negatives_rate=0.01)).train()
    method._has_all = True
    seen = views(method)
    q = normalize(method.head(method.encoder(seen[0])), dim=1).detach()
    nearest = [(q @ method.negatives.rows.T).amax(dim=1).mean()]
    for _ in range(5):
        method(seen, 0.5)
        method.after_step(0.5)
        nearest.append((q @ method.negatives.rows.T).amax(dim=1).mean())
    assert nearest[-1] > nearest[0]


def test_negatives_keep_length_1_and_move_by_their_own_momentum() -> None:
    method = made(negatives_rate=0.5)
    q, k = random(BATCH, 32), random(BATCH, 32) + 1
    rows, velocity = method.negatives.rows.clone(), torch.zeros_like(method.velocity)
    method._has_all = True
    for _ in range(3):
        uphill = method.uphill(q, k)
        velocity = 0.9 * velocity + uphill
        rows = normalize(rows + 0.5 * velocity, dim=1)
        method._seen = q, k
        method.after_step(0.5)
        torch.testing.assert_close(method.negatives.rows, rows)
        torch.testing.assert_close(method.velocity, velocity)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(20, dtype=torch.float64))


def test_far_negatives_feel_no_pull_at_the_cold_temperature_and_keys_do() -> None:
    """Why they start as keys. An untrained encoder says nearly the same of all images."""
    method = made()
    seen = views(method)
    q, k = (normalize(part, dim=1).detach() for part in (method.head(method.encoder(seen[0])), method.key_head(method.key_encoder(seen[1]))))
    away = made()
    away.negatives.rows.copy_(normalize(away.negatives.rows - (away.negatives.rows @ q.mean(dim=0))[:, None] * q.mean(dim=0), dim=1))
    assert away.uphill(q, k).abs().max() < 1e-9
    assert filled(method).uphill(q, k).abs().max() > 1e-3


def test_keys_replace_the_random_negatives_until_all_are_replaced() -> None:
    method = made(negatives_rate=1e-12)
    seen = views(method)
    keys = normalize(method.key_head(method.key_encoder(seen[1])), dim=1)
    for pushed in (16, 32, 32):  # 20 negatives, 16 images
        method(seen, 0.5)
        method.after_step(0.5)
        assert int(method.negatives.pushed) == pushed
    torch.testing.assert_close(method.negatives.rows[16:], keys[:4])
    torch.testing.assert_close(method.negatives.rows[:12], keys[4:])


def test_the_optimizer_of_the_encoder_has_nothing_to_do_with_the_negatives() -> None:
    method = made()
    assert not any("negatives" in name or "velocity" in name for name, _ in method.named_parameters())
    assert {"negatives.rows", "velocity"} <= set(method.state_dict())
    torch.autograd.backward(method(views(method), 0.5)["info_nce"])
    assert method.negatives.rows.grad is None


@pytest.mark.parametrize("negatives", [1, 8])
def test_a_query_that_cannot_tell_its_key_from_the_negatives_pays_the_logarithm_of_all(negatives: int) -> None:
    one = torch.ones(3, 4, dtype=torch.float64) / 2
    assert_allclose(moco(one, one, one[:1].expand(negatives, -1), 0.12), np.log(1 + negatives), rtol=1e-12)
