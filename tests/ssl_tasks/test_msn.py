"""MSN and PMSN: losses as loops have them, what keeps prototypes in use, and what anchors and targets see."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from masked_views import BATCH, draw, drift, make, only, over_pixels, pictures, seen
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import Tensor

from schemas.errors import UserError
from schemas.methods import MSN, PMSN
from schemas.views import Views
from ssl_tasks.losses.masked_siamese import agreement, log_assignments, power_law, usage

VIEWS = Views(preset="moco_v2", count=3, local_count=2, local_size=8)
WIDTHS: dict[str, Any] = {"hidden": 24, "output": 16, "prototypes": 12}
SMALL = MSN(views=VIEWS, **WIDTHS)
PRIOR = PMSN(views=VIEWS, power_law=0.5, **WIDTHS)
both = pytest.mark.parametrize("config", [SMALL, PRIOR], ids=["msn", "pmsn"])


def random_assignments(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).softmax(-1)


# Losses


def test_assignments_are_a_softmax_of_cosines_and_sharpening_is_a_colder_one() -> None:
    z, q = torch.randn(5, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    cosines = np.array([[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in q.numpy()] for x in z.numpy()])
    p = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum(1, keepdims=True)
    assert_allclose(log_assignments(z, q, 0.1), np.log(p), rtol=1e-9)
    sharpened = p ** (1 / 0.25) / (p ** (1 / 0.25)).sum(1, keepdims=True)
    assert_allclose(log_assignments(z, q, 0.1 * 0.25).exp(), sharpened, rtol=1e-9)


def test_agreement_is_the_mean_cross_entropy_of_every_anchor_with_its_images_target() -> None:
    anchors, targets = random_assignments(3, 5, 7), random_assignments(5, 7, seed=1)
    expected = -np.mean([[sum(float(t) * math.log(p) for t, p in zip(targets[b], anchors[v, b], strict=True)) for b in range(5)] for v in range(3)])
    assert_allclose(agreement(anchors.log(), targets), expected, rtol=1e-12)
    assert_allclose(agreement(torch.full((3, 5, 100), 0.01).log(), random_assignments(5, 100)), math.log(100), rtol=1e-6)


def test_usage_is_the_divergence_from_the_prior_and_of_a_uniform_one_the_missing_entropy() -> None:
    mean, prior = random_assignments(9), power_law(9, 0.25).double()
    expected = sum(float(p) * math.log(p / q) for p, q in zip(mean, prior, strict=True))
    assert_allclose(usage(mean, prior), expected, rtol=1e-6)
    entropy = -sum(float(p) * math.log(p) for p in mean)
    assert_allclose(usage(mean, power_law(9, 0.0).double()), math.log(9) - entropy, rtol=1e-6)


def test_a_power_law_falls_with_the_rank_of_a_prototype() -> None:
    shares = power_law(1000, 0.25).double().numpy()
    assert_allclose(shares.sum(), 1, rtol=1e-6)
    assert_allclose(shares[0] / shares, np.arange(1, 1001) ** 0.25, rtol=1e-5)
    assert_allclose(power_law(8, 0.0), 1 / 8)


def test_usage_is_at_its_worst_where_all_images_are_on_one_prototype_and_zero_where_all_are_used_alike() -> None:
    uniform = power_law(1024, 0.0).double()
    collapsed = torch.full((1024,), 1e-12, dtype=torch.float64)
    collapsed[3] = 1 - 1023e-12
    assert_allclose(usage(collapsed, uniform), math.log(1024), rtol=1e-7)
    assert all(usage(random_assignments(1024, seed=seed), uniform) < math.log(1024) for seed in range(5))
    assert_allclose(usage(uniform, uniform), 0, atol=1e-7)


def test_the_priors_usage_is_least_at_the_prior_and_pulls_towards_it_from_elsewhere() -> None:
    prior = power_law(50, 0.25).double()
    at_prior = prior.log().clone().requires_grad_()
    loss = usage(at_prior.softmax(0), prior)
    torch.autograd.backward(loss)
    assert at_prior.grad is not None
    assert abs(loss.item()) < 1e-6
    assert at_prior.grad.abs().max() < 1e-6
    for other in (power_law(50, 0.0).double(), *(random_assignments(50, seed=seed) for seed in range(5))):
        logits = other.log().clone().requires_grad_()
        loss = usage(logits.softmax(0), prior)
        torch.autograd.backward(loss)
        assert logits.grad is not None
        assert loss > 1e-3
        assert usage((logits - logits.grad).softmax(0), prior) < loss


def test_without_usage_a_collapse_is_as_good_as_it_gets_and_with_it_worse_than_a_spread() -> None:
    """Eight images, each as sure as can be: all on the first prototype, or each on its own."""
    sure = 30 * torch.eye(8, dtype=torch.float64)
    collapsed, spread = (rows.log_softmax(1)[None] for rows in (sure[:1].expand(8, -1), sure))
    uniform = power_law(8, 0.0).double()
    assert_allclose([agreement(log_p, log_p[0].exp()) for log_p in (collapsed, spread)], 0, atol=1e-9)
    worst, best = (usage(log_p.exp().mean((0, 1)), uniform) for log_p in (collapsed, spread))
    assert_allclose(worst, math.log(8), rtol=1e-6)
    assert_allclose(best, 0, atol=1e-6)


# What is seen


def test_an_anchor_does_not_see_the_patches_that_it_drops_and_the_target_sees_all() -> None:
    method = make(SMALL).eval()
    views = seen(method)
    dropped = [over_pixels(~only(views[-1][:, i])) for i in range(2)]
    altered = [views[0], *(torch.where(hidden, view + 3, view) for view, hidden in zip(views[1:3], dropped, strict=True)), *views[3:]]
    assert torch.equal(method.assigned(altered), method.assigned(views))
    for i in range(1, 5):
        moved = [view * 0.5 if j == i else view for j, view in enumerate(views)]
        changed = [not torch.allclose(a, b) for a, b in zip(method.assigned(moved), method.assigned(views), strict=True)]
        assert changed == [i == j for j in range(1, 5)], "anchors are the other crops, in their order"
    assert torch.equal(method.assigned([views[0] + 1, *views[1:]]), method.assigned(views)), "the first crop is the target's alone"
    assert not torch.allclose(method.targets(views[0] + torch.randn(16, 16, dtype=torch.float64)), method.targets(views[0]))


@both
def test_the_terms_are_those_of_the_batch(config: Any) -> None:
    method = make(config).eval()
    drift(method)
    views = seen(method)
    p, targets = method.assigned(views).exp().detach().numpy(), method.targets(views[0]).numpy()
    prior = np.arange(1, 13) ** (-0.5 if isinstance(config, PMSN) else 0.0)
    mean, prior = p.reshape(-1, 12).mean(0), prior / prior.sum()
    terms = method(views, 0.5)
    assert_allclose(terms["agreement"].item(), -(targets * np.log(p)).sum(-1).mean(), rtol=1e-9)
    assert_allclose(terms["usage"].item(), (mean * np.log(mean / prior)).sum(), rtol=1e-5)


def test_msn_is_pmsn_with_a_flat_prior() -> None:
    first, second = make(SMALL), make(PMSN(views=VIEWS, power_law=0.0, **WIDTHS))
    assert first(seen(first), 0.5) == second(seen(second), 0.5)
    assert make(PRIOR)(seen(first), 0.5)["usage"] != first(seen(first), 0.5)["usage"]


def test_no_gradient_flows_into_targets_or_the_teacher_and_prototypes_learn_from_anchors_alone() -> None:
    method = make(SMALL)
    views = [view.requires_grad_() if view.is_floating_point() else view for view in seen(method)]
    torch.autograd.backward(sum(method(views, 0.5).values()))
    assert views[0].grad is None, "the loss does not hang on what the teacher sees"
    assert all(view.grad is not None and view.grad.any() for view in views[1:5])
    assert all(p.grad is None for teacher in (method.teacher_encoder, method.teacher_head) for p in teacher.parameters())
    assert method.prototypes.grad.any()


def test_targets_are_sharp_and_sinkhorn_balances_them() -> None:
    method, plain = make(SMALL), make(SMALL.model_copy(update={"sinkhorn_iterations": 0}))
    images = torch.cat([seen(method, seed)[0] for seed in range(8)])
    balanced, raw = method.targets(images), plain.targets(images)
    for targets in (balanced, raw):
        assert_allclose(targets.sum(1), 1, rtol=1e-9)
    share = 1 / WIDTHS["prototypes"]
    assert (balanced.mean(0) - share).abs().max() < (raw.mean(0) - share).abs().max()
    warm = log_assignments(plain.teacher_head(plain.teacher_encoder(images)), plain.prototypes, 0.1).exp()
    assert_allclose(raw, (warm**4 / (warm**4).sum(1, keepdim=True)).detach(), rtol=1e-6)


def test_fifteen_per_cent_of_the_patches_are_dropped_anew_for_each_anchor_and_image() -> None:
    method = make(MSN(views=VIEWS.model_copy(update={"local_count": 0}), **WIDTHS), image_size=224, patch_size=16, depth=1)
    kept = method.views(pictures(), draw())[-1]
    assert kept.shape == (BATCH, 2, 166)  # of 196, as in the authors' code
    assert all(len(set(row)) == 166 for row in kept.flatten(0, 1).tolist())
    assert len({tuple(sorted(row)) for row in kept.flatten(0, 1).tolist()}) == 2 * BATCH


def test_the_teacher_is_exported_and_follows_by_a_momentum_on_a_straight_line() -> None:
    method = make(SMALL)
    before = [p.clone() for p in method.teacher_encoder.parameters()]
    drift(method)
    method.after_step(0.5)
    for old, new, student in zip(before, method.teacher_encoder.parameters(), method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.998 * old + 0.002 * student, rtol=1e-12, atol=1e-12)
    assert method.exported() is method.teacher_encoder.network


@both
def test_the_monitor_sees_all_images_on_one_assignment(config: Any) -> None:
    method = make(config).eval()
    with torch.no_grad():
        for p in method.teacher_head.parameters():
            p.zero_()
        method.teacher_head.network[-1].bias.fill_(1.0)
    found = method.monitored(seen(method))
    assert found["prototypes_used"] == pytest.approx(1 / 12)
    assert found["mean_entropy"] - found["teacher_entropy"] == pytest.approx(0, abs=1e-6)


# Config


def test_an_anchor_must_keep_a_patch() -> None:
    with pytest.raises(UserError, match=r"^pmsn: method.mask_ratio 0.95 leaves nothing of 16 patches of 16 px: lower it$"):
        make(PMSN(mask_ratio=0.95, **WIDTHS))


@pytest.mark.parametrize("kind", [MSN, PMSN])
@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"views": Views(count=1, local_count=4)}, "this method compares crops .* count must be 2 or more"),
        ({"sharpening": 1.0}, "less than 1"),
        ({"mask_ratio": 1.0}, "less than 1"),
    ],
)
def test_what_cannot_be_trained_is_refused(kind: Any, config: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        kind(**config)
