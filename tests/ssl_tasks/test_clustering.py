"""SwAV: Sinkhorn and the swapped prediction against formulas and numbers worked out by hand, and codes, prototypes and queue in training."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_steps import few_steps
from formulas import Matrix, random
from numpy.testing import assert_allclose
from planted import learned, on_points, two_views
from pydantic import ValidationError
from small_methods import ENCODERS, Case
from tiny_training import ranks
from torch import Tensor
from torch.nn.functional import normalize

from schemas.methods import SwAV as SwAVConfig
from schemas.views import Views
from ssl_tasks import distributed
from ssl_tasks.losses.clustering import cosines, swapped_prediction
from ssl_tasks.losses.sinkhorn import sinkhorn
from ssl_tasks.measures import signal_gain
from ssl_tasks.methods.clustering.swav import SwAV
from ssl_tasks.nn.encoder import TimmEncoder


def scores(samples: int, prototypes: int) -> Tensor:
    """Cosines (samples, prototypes) of random directions."""
    return normalize(random(samples, 16), dim=1) @ normalize(random(prototypes, 16), dim=1).T


# Swapped prediction


def swapped_by_formula(codes: Matrix, logits: Matrix, tau: float) -> float:
    """Equations 2 and 6 of https://arxiv.org/abs/2006.09882 with loops, of (crops, samples, K), a mean over pairs and samples."""
    terms = []
    for s, t in product(range(len(codes)), range(len(logits))):
        if t == s:
            continue
        for q, z_c in zip(codes[s], logits[t], strict=True):
            p = np.exp(z_c / tau) / sum(np.exp(z_c / tau))
            terms.append(-sum(q[k] * np.log(p[k]) for k in range(len(q))))
    return float(np.mean(terms))


@pytest.mark.parametrize("local_crops", [0, 6])
def test_swapped_prediction_is_the_papers_equation(local_crops: int) -> None:
    codes, logits = random(2, 3, 5).softmax(dim=-1), random(2 + local_crops, 3, 5)
    assert_allclose(swapped_prediction(list(codes), list(logits), 0.3), swapped_by_formula(codes.numpy(), logits.numpy(), 0.3), rtol=1e-12)


def test_a_crop_does_not_predict_its_own_code() -> None:
    """Each crop's softmax is sure of its own code and so wrong about the other's."""
    own = torch.eye(2, dtype=torch.float64)
    codes, logits = [own[[0]], own[[1]]], [own[[0]], own[[1]]]
    assert_allclose(swapped_prediction(codes, logits, 0.1), 10, atol=1e-4)
    assert_allclose(swapped_prediction(codes, logits[::-1], 0.1), 0, atol=1e-4)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosines": cosines,
    "sinkhorn": lambda a, b: sinkhorn(cosines(a, b), 0.05),
    "swapped prediction": lambda a, b: swapped_prediction([a.abs()], [a, b], 0.1),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in random(2, 16, 12))
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert torch.equal(computed, loss(a.float(), b.float()))


# SwAV

VIEWS = Views(preset="swav", local_count=2, local_size=8)
CONFIG = SwAVConfig(hidden=24, output=12, prototypes=10, queue_start=0.5, freeze_prototypes=0.2, views=VIEWS)
BATCH = 6
QUEUED = Case(SwAVConfig(hidden=48, output=32, prototypes=24, queue=16, queue_start=0.0), ENCODERS["convnet"])


def made(**changes: Any) -> SwAV:
    torch.manual_seed(0)
    return SwAV(CONFIG.model_copy(update=changes), TimmEncoder(ENCODERS["convnet"])).double().train()


def crops(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(BATCH, 1, side, side, generator=generator, dtype=torch.float64) for side in (16, 16, 8, 8)]


def loss_of(method: SwAV, views: list[Tensor], progress: float) -> Tensor:
    loss: Tensor = method(views, progress)["swav"]
    return loss


def embedded(method: SwAV, views: list[Tensor]) -> list[Tensor]:
    """z of each crop, by hand."""
    features = torch.cat([method.encoder(torch.cat(views[:2])), method.encoder(torch.cat(views[2:]))])
    projected = method.projector(features)
    return list((projected / projected.norm(dim=1, keepdim=True)).chunk(4))


def by_hand(method: SwAV, views: list[Tensor], queued: Tensor | None = None) -> Tensor:
    """The loss with codes as constants; `queued` (rows, 2, D) join the balance."""
    z = embedded(method, views)
    codes = []
    for crop in range(2):
        rows = z[crop] if queued is None else torch.cat([z[crop], queued[:, crop]])
        codes.append(sinkhorn((rows @ method.prototypes.T).detach(), 0.05, 3)[:BATCH].clone())
    return swapped_prediction(codes, [crop @ method.prototypes.T for crop in z], 0.1)


def moved(method: SwAV, progress: float) -> None:
    """One plain gradient step, with all that the training loop calls."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.5, weight_decay=0.1)
    loss_of(method, crops(), progress).backward()  # type: ignore[no-untyped-call]  # of torch
    method.before_step(progress)
    optimizer.step()
    method.after_step(progress)


def test_every_crop_predicts_the_codes_of_the_other_global_crops() -> None:
    method = made()
    torch.testing.assert_close(loss_of(method, crops(), 0.9), by_hand(method, crops()), rtol=1e-9, atol=1e-9)


def test_a_single_size_of_crops_is_enough() -> None:
    method = made(views=Views(preset="swav", local_count=0))
    views = crops()[:2]
    z = [normalize(part, dim=1) for part in method.projector(method.encoder(torch.cat(views))).chunk(2)]
    logits = [part @ method.prototypes.T for part in z]
    expected = swapped_prediction([sinkhorn(part, 0.05) for part in logits], logits, 0.1)
    torch.testing.assert_close(loss_of(method, views, 0.9), expected, rtol=1e-9, atol=1e-9)


def test_the_gradient_is_that_of_codes_that_are_constants() -> None:
    method = made()
    gradients = []
    for loss in (loss_of(method, crops(), 0.9), by_hand(method, crops())):
        method.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # of torch
        gradients.append({name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None})
    assert "prototypes" in gradients[0]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-10)


def test_prototypes_have_length_one_before_and_after_steps() -> None:
    method = made()
    before = method.prototypes.detach().clone()
    assert_allclose(before.norm(dim=1), np.ones(10), rtol=1e-6)  # made in float32
    moved(method, 0.9)
    assert_allclose(method.prototypes.detach().norm(dim=1), np.ones(10), rtol=1e-9)
    assert (method.prototypes - before).norm(dim=1).min() > 1e-4


def test_frozen_prototypes_stand_still_while_the_rest_learns() -> None:
    method = made()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    moved(method, 0.19)
    torch.testing.assert_close(method.prototypes.detach(), before["prototypes"], rtol=0, atol=1e-6)  # made in float32, set to length 1 since
    assert not torch.equal(dict(method.named_parameters())["projector.0.weight"], before["projector.0.weight"])
    moved(method, 0.2)
    assert (method.prototypes - before["prototypes"]).norm(dim=1).min() > 1e-4


def filled(rows: int = 2 * BATCH) -> SwAV:
    """With a queue that holds two batches, and those batches."""
    method = made(queue=rows)
    for seed in (1, 2):
        loss_of(method, crops(seed), 0.0)
    assert method.queue is not None
    return method


def test_the_queue_holds_the_global_crops_of_the_latest_batches() -> None:
    method = filled()
    assert method.queue is not None
    assert method.queue.is_full
    expected = [torch.cat(embedded(method, crops(seed))[:2], dim=1) for seed in (1, 2)]
    torch.testing.assert_close(method.queue.rows, torch.cat(expected), rtol=1e-9, atol=1e-9)


def test_the_queue_counts_from_its_start_on_and_without_the_batch_itself() -> None:
    method = filled()
    assert method.queue is not None
    queued = method.queue.rows.clone().view(2 * BATCH, 2, 12)
    with_queue, without = by_hand(method, crops(), queued), by_hand(method, crops())
    assert not torch.isclose(with_queue, without, rtol=1e-3)
    method.eval()  # looks without a push; batch norm's statistics are other ones then
    for progress, rows in ((0.49, None), (0.5, queued), (0.9, queued)):
        torch.testing.assert_close(loss_of(method, crops(), progress), by_hand(method, crops(), rows), rtol=1e-9, atol=1e-9)
    method.train()
    torch.testing.assert_close(loss_of(method, crops(), 0.9), with_queue, rtol=1e-9, atol=1e-9)


def test_a_queue_that_is_not_full_does_not_count() -> None:
    method = filled(rows=2 * BATCH + 1)
    torch.testing.assert_close(loss_of(method, crops(), 0.9), by_hand(method, crops()), rtol=1e-9, atol=1e-9)
    assert not torch.isclose(loss_of(method, crops(), 0.9), by_hand(method, crops()), rtol=1e-3)  # full since


def test_looking_does_not_fill_the_queue() -> None:
    method = filled().eval()
    assert method.queue is not None
    before = method.queue.rows.clone()
    loss_of(method, crops(), 0.9)
    method.monitored(crops())
    assert torch.equal(method.queue.rows, before)


def test_without_other_crops_there_is_nothing_to_predict() -> None:
    with pytest.raises(ValidationError, match="predicts one crop from another"):
        SwAVConfig(views=Views(count=1))


def test_a_collapsed_encoder_is_told_by_uniform_codes() -> None:
    method = made().eval()
    alive = method.monitored(crops())
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.zero_()
    collapsed = method.monitored(crops())
    assert alive["teacher_entropy"] < 0.9
    assert alive["prototypes_used"] > collapsed["prototypes_used"]
    assert collapsed["teacher_entropy"] > 0.999
    assert collapsed["mean_entropy"] - collapsed["teacher_entropy"] < 1e-6


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0], ids=lambda noise: f"noise {noise}")
def test_the_gain_is_what_a_turn_of_codes_and_best_prediction_multiplies_the_signal_by(noise: float) -> None:
    """Near uniform, as `measures.signal_gain` has it for a teacher: predictions are linear here, of least squares."""
    content = random(30_000, 5)
    views = [content + noise * torch.randn(30_000, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2)]
    prototypes = 1e-4 * random(5, 12)
    log_codes = sinkhorn(views[1] @ prototypes, 0.05, 3).log()
    turned = 0.1 * torch.linalg.lstsq(views[0], log_codes - log_codes.mean(dim=1, keepdim=True)).solution
    grown = turned.norm() / (prototypes - prototypes.mean(dim=1, keepdim=True)).norm()
    assert_allclose(grown, signal_gain(views[0] @ prototypes, views[1] @ prototypes, 0.1, 0.05), rtol=0.03)
    assert_allclose(grown, 2 / (1 + noise**2), rtol=0.03)


def test_what_is_monitored_are_codes_and_how_far_the_softmax_is_from_them() -> None:
    method, views = made().eval(), crops()
    first, second = (z.detach() @ method.prototypes.detach().T for z in embedded(method, views)[:2])
    codes = torch.cat([sinkhorn(crop, 0.05, 3) for crop in (first, second)])
    seen, softmax = method.monitored(views), (torch.cat([first, second]) / 0.1).softmax(dim=1)
    assert_allclose(seen["teacher_student_kl"], (codes * (codes / softmax).log()).sum(dim=1).mean(), rtol=1e-5)
    assert_allclose(seen["signal_gain"], signal_gain(first, second, 0.1, 0.05), rtol=1e-5)
    assert seen["prototypes_used"] == len(set(softmax.argmax(dim=1).tolist())) / 10
    assert "signal_gain" not in made(views=Views(count=1, local_count=2, local_size=8)).eval().monitored([views[0], *views[2:]])


def share(folder: Path) -> None:
    """What one of two processes does."""
    torch.save(few_steps(QUEUED), folder / f"{distributed.rank()}.pt")


def test_two_processes_with_a_queue_in_use_train_as_one(tmp_path: Path) -> None:
    """It is full after the first of three steps, so that it counts in the others."""
    ranks(2, share, tmp_path, seconds=300)
    alone, without = few_steps(QUEUED), few_steps(replace(QUEUED, config=QUEUED.config.model_copy(update={"queue": 0})))
    assert alone["losses"][0] == without["losses"][0]
    assert all(abs(queued["swav"] - plain["swav"]) > 1e-4 for queued, plain in zip(alone["losses"][1:], without["losses"][1:], strict=True))
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone, rtol=1e-8, atol=1e-8)


def test_swav_tells_clusters_apart() -> None:
    method = on_points(SwAV, SwAVConfig(hidden=32, output=16, prototypes=16, views=Views(local_count=0)))
    losses = learned(method)
    seen = method.eval().monitored(two_views(torch.Generator().manual_seed(2)))
    assert losses[-1] < 0.5 * losses[0]
    assert seen["mean_entropy"] > 0.9  # all prototypes are used
    assert seen["teacher_entropy"] < 0.5  # and each point has few of them
