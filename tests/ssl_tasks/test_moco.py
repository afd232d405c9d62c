"""MoCo v1 to v3: the parts that keep a queue and its keys honest, and which part is handed over."""

from typing import Any

import pytest
import torch
from formulas import moco_by_formula, moco_v3_by_formula
from numpy.testing import assert_allclose
from small_methods import ENCODERS
from tiny_training import make, weights
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas import methods as configs
from ssl_tasks.methods.contrastive.moco import MoCo
from ssl_tasks.methods.contrastive.moco_v3 import MoCoV3
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.queue import Queue


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # of torch


# The queue


def test_a_queue_drops_the_oldest_rows_first_and_any_batch_goes_round_its_end() -> None:
    queue, rows = Queue(5, 2), torch.arange(24.0).view(12, 2)
    for start in range(0, 12, 3):
        assert not queue.is_full or start >= 6
        queue.push(rows[start : start + 3])
        newest = rows[max(0, start + 3 - 5) : start + 3].tolist()
        assert all(row in queue.rows.tolist() for row in newest)
    assert sorted(queue.rows.tolist()) == rows[-5:].tolist()


def test_of_a_batch_longer_than_the_queue_the_last_rows_stay() -> None:
    queue, rows = Queue(5, 2), torch.arange(24.0).view(12, 2)
    queue.push(rows)
    assert sorted(queue.rows.tolist()) == rows[-5:].tolist()


def test_the_age_of_a_queue_is_that_of_its_oldest_row() -> None:
    queue, ages = Queue(8, 2), []
    for _ in range(5):
        ages.append(queue.age)
        queue.push(torch.zeros(4, 2))
    assert ages == [0, 1, 2, 2, 2]


# MoCo v1 and v2

SMALL: dict[str, Any] = {"queue": 10, "output": 8}
V1, V2 = configs.MoCoV1(**SMALL), configs.MoCoV2(**SMALL, hidden=24)
both = pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])


def made(config: Any, encoder: str = "vit", **changes: float) -> Any:
    """A small method in train mode."""
    return make(config.model_copy(update=changes), ENCODERS[encoder]).train()


def views(seed: int = 0, images: int = 4) -> list[Tensor]:
    return list(torch.randn(2, images, 1, 16, 16, generator=torch.Generator().manual_seed(seed)))


def step(method: Any, progress: float = 0.5, seed: int = 0) -> None:
    """One plain gradient step, with all that the training loop calls."""
    trained = [p for p in method.parameters() if p.requires_grad]
    (loss,) = method(views(seed), progress).values()
    backward(loss)
    method.before_step(progress)
    torch.optim.SGD(trained, lr=0.1).step()
    method.zero_grad()
    method.after_step(progress)


def keys_of(method: MoCo, seed: int = 0) -> Tensor:
    return normalize(method.key_head(method.key_encoder(views(seed)[1])), dim=1)


@both
def test_no_gradient_reaches_the_key_encoder(config: Any) -> None:
    method = made(config)
    backward(method(views(), 0.5)["info_nce"])
    keys = [*method.key_encoder.parameters(), *method.key_head.parameters()]
    assert keys
    assert all(p.grad is None and not p.requires_grad for p in keys)
    assert not keys_of(method).requires_grad
    assert all(p.grad is not None for p in method.encoder.parameters())


@both
def test_the_loss_is_that_of_the_first_views_queries_and_the_second_views_keys_against_the_queue(config: Any) -> None:
    method = made(config).double()
    first, second = (view.double() for view in views())
    q, k = method.head(method.encoder(first)), method.key_head(method.key_encoder(second))
    expected = moco_by_formula(q, k, method.queue.rows, config.temperature)
    assert_allclose(method([first, second], 0.5)["info_nce"].detach(), expected, rtol=1e-10)


def test_a_query_does_not_meet_its_own_key_as_a_negative() -> None:
    """The queue changes after the step alone; with its own keys in it, the loss of a batch would be higher."""
    method = made(V2, momentum=1.0)
    before = method.queue.rows.clone()
    loss = method(views(), 0.5)["info_nce"].item()
    assert torch.equal(method.queue.rows, before)
    method.after_step(0.5)
    assert_allclose(method.queue.rows[:4], keys_of(method), atol=1e-6)
    assert torch.equal(method.queue.rows[4:], before[4:])
    assert method.eval()(views(), 0.5)["info_nce"].item() > loss + 0.1


def test_keys_come_in_once_a_step_and_leave_in_the_order_in_which_they_came() -> None:
    """Four keys a step in a queue of ten: after four steps the last two steps' are whole, and half of those before."""
    method = made(V2, momentum=1.0)
    for seed in range(4):
        method(views(seed), 0.5)  # twice, as if the first forward had been thrown away
        method(views(seed), 0.5)
        method.after_step(0.5)
        method.after_step(0.5)  # without a forward in between nothing comes in
        assert int(method.queue.pushed) == 4 * (seed + 1)
    expected = torch.cat([keys_of(method, seed) for seed in range(4)])[-10:]
    distances = torch.cdist(expected, method.queue.rows)
    assert distances.min(dim=1).values.max() < 1e-5
    assert sorted(distances.argmin(dim=1).tolist()) == list(range(10))


def test_keys_that_are_looked_at_in_eval_mode_do_not_come_in() -> None:
    method = made(V2).eval()
    method(views(), 0.5)
    method.after_step(0.5)
    assert int(method.queue.pushed) == 0


def test_keys_on_their_way_are_not_part_of_a_checkpoint() -> None:
    method = made(V2)
    before = list(method.state_dict())
    method(views(), 0.5)
    assert list(method.state_dict()) == before
    assert {"queue.rows", "queue.pushed"} <= set(before)


def test_keys_in_the_queue_are_unit_vectors() -> None:
    method = made(V1)
    for seed in range(3):
        step(method, seed=seed)
    assert_allclose(method.queue.rows.norm(dim=1), torch.ones(10), rtol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_without_momentum_the_key_encoder_is_the_query_encoder(encoder: str) -> None:
    method = made(V2, encoder, momentum=0.0)
    step(method)
    for keys, queries in ((method.key_encoder, method.encoder), (method.key_head, method.head)):
        assert all(torch.equal(k, q) for k, q in zip(keys.parameters(), queries.parameters(), strict=True))


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_key_encoder_moves_by_the_same_share_at_any_time(progress: float) -> None:
    method = made(V2, momentum=0.9)
    before = [p.clone() for p in method.key_head.parameters()]
    step(method, progress)
    for old, new, query in zip(before, method.key_head.parameters(), method.head.parameters(), strict=True):
        assert_allclose(new, 0.9 * old + 0.1 * query.detach(), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_key_batch_norms_normalise_by_the_batch_of_keys_and_remember_nothing(training: bool) -> None:
    """As the query encoder in training."""
    method = made(V2, "convnet")
    step(method)
    method.key_encoder.follow(method.encoder, 0.0)
    images = views(1)[0]
    expected = method.encoder(images)
    assert torch.equal(method.train(training).key_encoder(images), expected)
    assert not torch.allclose(method.encoder.eval()(images), expected)
    assert not [name for name in method.key_encoder.state_dict() if "running" in name]


def test_the_head_is_linear_in_v1_and_in_v2_an_mlp_without_batch_norm() -> None:
    kinds = [[type(layer) for layer in made(config).head] for config in (V1, V2)]
    assert kinds == [[nn.Linear], [nn.Linear, nn.ReLU, nn.Linear]]
    assert all(layer.bias is not None for layer in made(V2).head if isinstance(layer, nn.Linear))


def test_how_stale_the_queue_is() -> None:
    """Ten keys, four a step: the oldest is two and a half steps old, in which the key encoder was replaced by 1 - 0.9^2.5."""
    method = made(V2, momentum=0.9)
    ages = []
    for seed in range(5):
        ages.append(method.monitored(views())["queue_age"])
        step(method, seed=seed)
    assert ages == [0, 1, 2, 2.5, 2.5]
    assert_allclose(method.monitored(views())["queue_drift"], 1 - 0.9**2.5)


def test_the_query_encoder_is_what_is_exported() -> None:
    for config in (V1, V2, V3):
        method = made(config)
        assert method.exported() is method.encoder


# MoCo v3

V3 = configs.MoCoV3(hidden=24, output=8)


def test_only_queries_go_through_the_predictor_and_both_directions_are_added() -> None:
    method = made(V3).double()
    assert sum(isinstance(m, Teacher) for m in method.modules()) == 2  # encoder and projector: there is no predictor for keys
    images = torch.cat(views()).double()
    keys = method.key_projector(method.key_encoder(images))
    queries = method.predictor(method.projector(method.encoder(images)))
    expected = moco_v3_by_formula(queries[:4], keys[4:], 0.2) + moco_v3_by_formula(queries[4:], keys[:4], 0.2)
    assert_allclose(method(list(images.chunk(2)), 0.5)["info_nce"].detach(), expected, rtol=1e-10)


def test_the_order_of_the_two_views_does_not_matter() -> None:
    method = made(V3)
    loss, swapped = (method(pair, 0.5)["info_nce"].item() for pair in (views(), views()[::-1]))
    assert_allclose(swapped, loss, rtol=1e-6)


def test_no_gradient_reaches_the_keys_of_v3() -> None:
    method = made(V3)
    backward(method(views(), 0.5)["info_nce"])
    assert all(p.grad is None and not p.requires_grad for p in [*method.key_encoder.parameters(), *method.key_projector.parameters()])
    assert not method.key_projector(method.key_encoder(views()[0])).requires_grad


@pytest.mark.parametrize("frozen", [True, False])
def test_the_patch_embedding_of_a_vit_stays_as_it_was_drawn_where_it_is_frozen(frozen: bool) -> None:
    method = made(V3, freeze_patches=frozen)
    before = weights(method.encoder.backbone)
    step(method)
    moved = {name for name, value in weights(method.encoder.backbone).items() if value != before[name]}
    patches = {name for name in before if name.startswith("patch_embed")}
    assert moved & patches == (set() if frozen else patches)
    assert {"pos_embed", "blocks.0.attn.qkv.weight"} <= moved


def test_of_a_convnet_nothing_is_frozen() -> None:
    assert all(p.requires_grad for p in made(V3, "convnet").encoder.parameters())


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.99), (0.5, 0.995), (1.0, 1.0)])
def test_the_momentum_of_v3_rises_to_one_by_half_a_cosine(progress: float, expected: float) -> None:
    method = made(V3)
    with torch.no_grad():
        for p, value in ((method.key_encoder, 0.0), (method.encoder, 1.0), (method.key_projector, 0.0), (method.projector, 1.0)):
            for parameter in p.parameters():
                parameter.fill_(value)
    method.after_step(progress)
    for parameter in [*method.key_encoder.parameters(), *method.key_projector.parameters()]:
        assert_allclose(parameter, torch.full_like(parameter, 1 - expected), atol=1e-7)


@pytest.mark.parametrize(("encoder", "given", "layers", "predictor_norms"), [("vit", None, 3, 2), ("convnet", None, 2, 1), ("vit", 2, 2, 2)])
def test_heads_of_v3_are_the_authors(encoder: str, given: int | None, layers: int, predictor_norms: int) -> None:
    method = make(V3.model_copy(update={"projector_layers": given}), ENCODERS[encoder])
    assert isinstance(method, MoCoV3)
    linears = [m for head in (method.projector, method.predictor) for m in head if isinstance(m, nn.Linear)]
    assert len(linears) == layers + 2
    assert all(m.bias is None for m in linears)
    last = method.projector[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert not last.affine
    norms = [m for m in method.predictor if isinstance(m, nn.BatchNorm1d)]
    assert [m.affine for m in norms] == [True, False][:predictor_norms]
