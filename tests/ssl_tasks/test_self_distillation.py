"""DINO, iBOT, DINOv2 and DINOv3: their losses by formula, and the mechanisms that make them learn, one by one. DINO's own: test_dino.py"""

import math
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_steps import few_steps
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError
from small_methods import BATCH, CASES, Case
from timm.layers.mlp import GluMlp
from torch import Tensor, nn

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.views import Views
from ssl_tasks import distributed
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.gram import gram
from ssl_tasks.losses.koleo import koleo
from ssl_tasks.losses.self_distillation import center_and_sharpen, dino, masked_patches
from ssl_tasks.method import Terms
from ssl_tasks.methods.self_distillation.dinov3 import DINOv3
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.snapshot import Snapshot
from ssl_tasks.nn.targets import Targets

Matrix = NDArray[np.float64]


def random(*shape: int) -> Tensor:
    """Standard normal numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def double(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def softmax(x: Matrix) -> Matrix:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# DINO's loss of crops


def dino_by_formula(teacher: Matrix, student: Matrix, center: Matrix, tau_t: float, tau_s: float) -> float:
    """Equation 3 of https://arxiv.org/abs/2104.14294, of logits (views, samples, K)."""
    pairs = []
    for t, s in product(range(len(teacher)), range(len(student))):
        if s != t:
            p_t, p_s = softmax((teacher[t] - center) / tau_t), softmax(student[s] / tau_s)
            pairs.append(-(p_t * np.log(p_s)).sum(axis=-1).mean())
    return float(np.mean(pairs))


@pytest.mark.parametrize("local_views", [0, 2, 6])
def test_dino_is_the_papers_equation(local_views: int) -> None:
    teacher, student, center = random(2, 3, 5), random(2 + local_views, 3, 5), random(5)
    loss = dino(list(center_and_sharpen(teacher, center, 0.4)), list(student), 0.7)
    assert_allclose(loss, dino_by_formula(teacher.numpy(), student.numpy(), center.numpy(), 0.4, 0.7), rtol=1e-12)


@pytest.mark.parametrize(("views", "terms"), [(2, 2), (4, 6), (8, 14), (10, 18), (12, 22)])
def test_dino_averages_over_every_pair_but_the_same_view(views: int, terms: int) -> None:
    """Each pair's cross-entropy is its own number: the mean tells which pairs were taken."""
    targets = [double([[1.0, 0.0]]), double([[0.0, 1.0]])]
    logits = [torch.log_softmax(double([[0.0, float(s)]]), dim=-1) for s in range(views)]
    taken = [-logits[s][0, t] for t, s in product(range(2), range(views)) if s != t]
    assert len(taken) == terms
    assert_allclose(dino(targets, logits, 1.0), torch.stack(taken).mean(), rtol=1e-12)


def test_dino_of_uniform_outputs_is_the_logarithm_of_the_prototypes_and_has_no_gradient() -> None:
    logits = torch.zeros(4, 8, dtype=torch.float64, requires_grad=True)
    target = center_and_sharpen(torch.zeros(4, 8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64), 0.04)
    loss = dino([target, target], [logits, logits], 0.1)
    loss.backward()
    assert_allclose(loss.detach(), 2.079442, atol=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-15


def test_dino_of_a_dominant_prototype_is_nearly_zero_until_the_center_meets_it() -> None:
    logits = torch.eye(8, dtype=torch.float64)[:1]
    zero = torch.zeros(8, dtype=torch.float64)
    unmoved = [center_and_sharpen(logits, zero, 1e-3)] * 2
    assert_allclose(dino(unmoved, [logits] * 2, 0.1), math.log(1 + 7 * math.exp(-10)), rtol=1e-9)
    assert_allclose(dino(unmoved, [logits] * 2, 0.1), 0.000318, atol=1e-6)
    centered = [center_and_sharpen(logits, logits[0], 1e-3)] * 2
    assert_allclose(dino(centered, [logits] * 2, 0.1), 8.750318, atol=1e-6)


@pytest.mark.parametrize(("tau_t", "tau_s", "expected"), [(0.04, 0.1, 0.006806), (1.0, 1.0, 1.218376)])
def test_dino_worked_out_by_hand(tau_t: float, tau_s: float, expected: float) -> None:
    """One pair: the teacher's only view against the student's second."""
    teacher, student = double([[2, 1, 0, 0], [0, 1, 2, 0]]), double([[1, 0.5, 0, 0], [0, 0.5, 1, 0]])
    targets = center_and_sharpen(teacher, double([1, 1, 1, 0]), tau_t)
    assert_allclose(dino([targets], [student, student], tau_s), expected, atol=1e-6)


def test_pairs_with_a_local_crop_may_count_less() -> None:
    """DINOv3's weights with two global and eight local crops: 2/18 of the mean over global pairs, 16/18 of that over local ones."""
    teacher, student = random(2, 3, 5).softmax(-1), random(10, 3, 5)
    of_globals = dino(list(teacher), list(student[:2]), 0.1)
    everything = dino(list(teacher), list(student), 0.1)
    of_locals = (18 * everything - 2 * of_globals) / 16
    assert_allclose(dino(list(teacher), list(student), 0.1, local_weight=0.5), 2 / 18 * of_globals + 0.5 * 16 / 18 * of_locals, rtol=1e-12)


# iBOT's loss of masked patches


def test_the_loss_of_masked_patches_is_the_papers_equation_with_a_mean_over_a_crops_patches() -> None:
    """Equation 2 of https://arxiv.org/abs/2111.07832 with loops, over crops of which the third has no masked patch."""
    masks = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    teacher, student = softmax(random(3, 4, 6).numpy() / 0.07), random(3, 4, 6).numpy()[::-1] / 0.1
    losses = []
    for crop in range(3):
        patches = [-(teacher[crop, i] * np.log(softmax(student[crop, i]))).sum() for i in range(4) if masks[crop, i]]
        losses.append(np.mean(patches) if patches else 0.0)
    crops_M = torch.from_numpy(masks.nonzero()[0])
    ours = masked_patches(torch.from_numpy(teacher[masks]), torch.from_numpy((0.1 * student)[masks]), 0.1, crops_M, 3)
    assert_allclose(ours, np.mean(losses), rtol=1e-12)


def test_a_crop_weighs_the_same_however_much_of_it_is_masked() -> None:
    teacher, student = random(1, 8).softmax(-1), random(2, 8)[:1]
    for patches in (1, 10, 65):
        loss = masked_patches(teacher.expand(patches, -1), student.expand(patches, -1), 0.1, torch.zeros(patches, dtype=torch.long), 1)
        assert_allclose(loss, dino([teacher], [teacher, student], 0.1), rtol=1e-12)


def test_the_loss_of_no_masked_patch_is_zero_and_flows_back() -> None:
    student = torch.zeros(0, 8, dtype=torch.float64, requires_grad=True)
    loss = masked_patches(torch.zeros(0, 8, dtype=torch.float64), student, 0.1, torch.zeros(0, dtype=torch.long), 4)
    loss.backward()
    assert loss == 0


# KoLeo


def koleo_by_formula(features: Matrix) -> float:
    """Equation 4 of https://arxiv.org/abs/1806.03198 with loops, of normalised features."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = [min(np.linalg.norm(unit[i] - unit[j]) for j in range(len(unit)) if j != i) for i in range(len(unit))]
    return float(-np.mean(np.log(nearest)))


def test_koleo_is_the_papers_equation() -> None:
    features = random(12, 5)
    assert_allclose(koleo(features), koleo_by_formula(features.numpy()), rtol=1e-7)
    assert_allclose(koleo(7 * features), koleo(features), rtol=1e-7)


def test_koleo_of_the_ends_of_four_axes() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    assert_allclose(koleo(torch.cat([eye, -eye])), -math.log(math.sqrt(2)), atol=1e-7)
    assert_allclose(koleo(torch.cat([eye, -eye])), -0.346574, atol=1e-6)


def test_koleo_drives_neighbours_apart() -> None:
    """With the sign that some texts print, 32 points on a sphere end on each other."""

    def spread(sign: float) -> float:
        points = random(32, 8).requires_grad_()
        optimizer = torch.optim.Adam([points], 0.05)
        for _ in range(300):
            optimizer.zero_grad()
            (sign * koleo(points)).backward()  # type: ignore[no-untyped-call]  # of torch
            optimizer.step()
        return math.exp(-koleo(points).item())

    start = math.exp(-koleo(random(32, 8)).item())
    assert spread(1.0) > 1.1 > start
    assert spread(-1.0) < 0.1


def test_koleo_of_equal_features_is_finite_and_so_is_its_gradient() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    koleo(features).backward()  # type: ignore[no-untyped-call]  # of torch
    assert koleo(features).isfinite()
    assert features.grad is not None
    assert features.grad.isfinite().all()


# Gram anchoring


def test_gram_is_the_papers_equation_with_a_mean_over_pairs() -> None:
    """Equation 3 of https://arxiv.org/abs/2508.10104 for each image, over the number of pairs, as in the authors' code."""
    student, teacher = random(3, 6, 5), random(3, 6, 4)
    losses = []
    for x_s, x_g in zip(student.numpy(), teacher.numpy(), strict=True):
        own, wanted = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (x_s, x_g))
        losses.append(((own @ own.T - wanted @ wanted.T) ** 2).sum() / 36)
    assert_allclose(gram(student, teacher), np.mean(losses), rtol=1e-12)


def test_gram_worked_out_by_hand() -> None:
    assert_allclose(gram(double([[[1, 0], [0, 1], [1, 1]]]), double([[[1, 0], [1, 0], [1, 1]]])), 2 / 9, rtol=1e-12)


def test_gram_lets_features_turn_and_change_places_and_length() -> None:
    features = random(2, 7, 5)
    rotation = torch.linalg.qr(random(5, 5)).Q
    for same in (features, features @ rotation, features[..., [3, 1, 4, 0, 2]], 3 * features):
        assert_allclose(gram(features, same), 0, atol=1e-14)
    assert gram(features, features[:, [1, 0, 2, 3, 4, 5, 6]]) > 0.01


def test_gram_pulls_the_student_only() -> None:
    student, teacher = random(2, 4, 3).requires_grad_(), random(2, 4, 3).flip(0).requires_grad_()
    gram(student, teacher).backward()  # type: ignore[no-untyped-call]  # of torch
    assert student.grad is not None
    assert teacher.grad is None


FAMILY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "masked patches": lambda a, b: masked_patches(a.float().softmax(-1), b, 0.1, torch.arange(len(a)) % 4, 4),
    "koleo": lambda a, b: koleo(torch.cat([a, b])),
    "gram": lambda a, b: gram(a[None], b[None]),
}


@pytest.mark.parametrize("loss", FAMILY.values(), ids=FAMILY)
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in random(2, 16, 12))
    expected = loss(a.float(), b.float())
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert computed == expected


# Prototypes


def head_of(length: Any) -> PrototypeHead:
    torch.manual_seed(0)
    return PrototypeHead(6, 8, 4, 10, length)


def test_trained_prototypes_start_as_cosines_and_then_have_a_length_of_their_own() -> None:
    features = torch.randn(5, 6)
    fixed, trained = head_of("fixed"), head_of("trained")
    assert torch.equal(trained(features), fixed(features))
    with torch.no_grad():
        trained.get_parameter("gain")[3] = 2.0
        trained.prototypes.weight *= 5
    assert_allclose(trained(features)[:, 3].detach(), 2 * fixed(features)[:, 3].detach(), rtol=1e-5)
    assert_allclose(trained(features)[:, 4].detach(), fixed(features)[:, 4].detach(), rtol=1e-5)


def test_free_prototypes_have_the_length_of_their_weights() -> None:
    features, free = torch.randn(5, 6), head_of("free")
    logits = free(features).detach()
    with torch.no_grad():
        free.prototypes.weight *= 5
    assert_allclose(free(features).detach(), 5 * logits, rtol=1e-5)


@pytest.mark.parametrize("length", ["fixed", "trained", "free"])
def test_held_prototypes_get_no_gradient_and_the_rest_of_the_head_does(length: str) -> None:
    head = head_of(length)
    head(torch.randn(5, 6)).square().sum().backward()
    head.hold_prototypes()
    without = {name for name, p in head.named_parameters() if p.grad is None}
    assert without == {"prototypes.weight"} | ({"gain"} if length == "trained" else set())


# Targets


def test_balanced_targets_are_distributions_that_use_every_prototype_alike() -> None:
    targets = Targets(configs.DINOv2(), 8, temperature=0.07)
    logits = random(64, 8) + 3 * torch.eye(8, dtype=torch.float64)[0]
    probs = targets(logits, 1.0)
    assert_allclose(probs.sum(dim=1), 1, rtol=1e-12)
    assert_allclose(probs.sum(dim=0), 8, rtol=0.5)
    assert center_and_sharpen(logits, torch.zeros(8), 0.07).sum(dim=0)[0] > 40
    targets.move(logits)
    assert not targets.center.any()


def test_the_center_moves_to_the_mean_over_rows() -> None:
    targets = Targets(configs.IBOT(), 4, temperature=0.07)
    targets.move(torch.tensor([[2.0, 1, 0, 0], [0, 1, 2, 0], [1, 1, 1, 0]]))
    assert_allclose(targets.center, [0.1, 0.1, 0.1, 0], atol=1e-7)


def test_patches_have_a_temperature_of_their_own() -> None:
    method = made("ibot", teacher_temperature=0.05, patch_teacher_temperature=0.09, teacher_temperature_warmup=0.5)
    assert_allclose([method.pair.crop_targets.temperature(p) for p in (0.0, 0.25, 0.5, 1.0)], [0.04, 0.045, 0.05, 0.05])
    assert_allclose([method.pair.patch_targets.temperature(p) for p in (0.0, 0.25, 0.5, 1.0)], [0.04, 0.065, 0.09, 0.09])


# iBOT and its heirs

masking = pytest.mark.parametrize("kind", ["ibot", "dinov2", "dinov3"])
FEW_CROPS = Views(local_count=2)


def case_of(kind: str, **changes: Any) -> Case:
    case = CASES[f"{kind}-vit"]
    return replace(case, config=case.config.model_copy(update={"views": FEW_CROPS, **changes}))


def made(kind: str, **changes: Any) -> Any:
    return case_of(kind, **changes).make()


def views_of(method: Any, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (BATCH, 1, 18, 18), dtype=torch.uint8, generator=generator)
    views: list[Tensor] = method.views(images, Draw(generator, BATCH))
    return views


def terms_of(method: Any, views: list[Tensor] | None = None, progress: float = 0.9) -> Terms:
    terms: Terms = method(views or views_of(method), progress)
    return terms


def step(method: Any, progress: float, rate: float = 0.5) -> None:
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=rate)
    torch.autograd.backward(sum(terms_of(method, progress=progress).values()))
    method.before_step(progress)
    optimizer.step()
    method.after_step(progress)


@masking
def test_masks_come_behind_the_crops_and_half_of_the_global_crops_are_masked(kind: str) -> None:
    *crops, masks = views_of(made(kind, mask_ratio=(0.25, 0.5)))
    assert [crop.shape[-1] for crop in crops] == [16, 16, 8, 8]
    assert masks.shape == (BATCH, 2, 16)
    counts = masks.sum(dim=2)
    assert (counts > 0).sum(dim=0).tolist() == [BATCH // 2, BATCH // 2]
    assert {4, 7} <= set(counts.flatten().tolist()) <= {0, 4, 5, 6, 7}


@masking
@pytest.mark.parametrize("shape", ["block", "random", "inverse_block"])
def test_every_shape_of_mask_trains(kind: str, shape: str) -> None:
    assert all(term.isfinite() for term in terms_of(made(kind, masking=shape)).values())


@masking
def test_the_student_alone_sees_masked_crops(kind: str) -> None:
    """What takes a masked patch's place changes the student's logits, and nothing of the teacher's."""
    method = made(kind).eval()
    logits: dict[str, list[Tensor]] = {"teacher": [], "student": []}
    method.pair.teacher_heads.network.register_forward_hook(lambda _module, _given, out: logits["teacher"].extend(out))
    method.pair.heads.register_forward_hook(lambda _module, _given, out: logits["student"].extend(out))
    terms_of(method)
    with torch.no_grad():
        method.pair.mask_token.normal_()
    terms_of(method)
    for before, after in zip(logits["teacher"][:2], logits["teacher"][2:], strict=True):
        assert torch.equal(before, after)
    crops_before, patches_before, crops_after, patches_after = logits["student"]
    masked = views_of(method)[-1].any(dim=2).T.flatten()
    changed = (crops_before - crops_after).abs().amax(dim=1) > 1e-6
    assert changed.tolist() == [*masked.tolist(), *[False] * (2 * BATCH)]  # unmasked global crops and local ones are as they were
    assert ((patches_before - patches_after).abs().amax(dim=1) > 1e-6).all()


@masking
def test_only_masked_patches_enter_the_loss_of_patches(kind: str) -> None:
    method = made(kind)
    views = views_of(method)
    losses = method.pair(views, 0.9)
    (gradient,) = torch.autograd.grad(losses.patches, losses.student.patches)
    assert torch.equal(gradient.abs().amax(dim=2) > 0, views[-1].transpose(0, 1).flatten(0, 1))


@masking
def test_the_loss_of_patches_by_the_formula(kind: str) -> None:
    """From the logits that the heads give: the teacher's of a patch of a global crop as targets, the student's at the same place."""
    method = made(kind, centering="center", patch_weight=3.0)
    views = views_of(method)
    masks, logits = views[-1].transpose(0, 1).flatten(0, 1), []
    for heads in (method.pair.teacher_heads.network, method.pair.heads):
        heads.register_forward_hook(lambda _module, _given, out: logits.append(out[1].detach()))
    ours = terms_of(method, views, progress=1.0)["ibot"]
    cross_entropy = -(softmax(logits[0].double().numpy() / 0.07) * np.log(softmax(logits[1].double().numpy() / 0.1))).sum(axis=1)
    crop_of = masks.nonzero()[:, 0].numpy()
    per_crop = [cross_entropy[crop_of == crop].mean() if (crop_of == crop).any() else 0.0 for crop in range(2 * BATCH)]
    assert_allclose(ours.item(), 3.0 * np.mean(per_crop), rtol=1e-5)


@masking
def test_no_gradient_reaches_a_teacher(kind: str) -> None:
    method = made(kind)
    torch.autograd.backward(sum(terms_of(method).values()))
    teachers = [p for name, p in method.named_parameters() if "teacher" in name]
    assert teachers
    assert all(p.grad is None and not p.requires_grad for p in teachers)


@masking
def test_the_teacher_follows_by_the_formula_of_a_moving_average_or_at_a_constant_pace(kind: str) -> None:
    for end, momentum in ((1.0, 0.95), (0.9, 0.9)):
        method = made(kind, momentum=0.9, momentum_end=end)
        student, teacher = ([*method.pair.encoder.parameters(), *method.pair.heads.parameters()], [])
        for part in (method.pair.teacher_encoder, method.pair.teacher_heads):
            teacher += [p.clone() for p in part.parameters()]
        with torch.no_grad():
            for p in student:
                p.add_(1.0)
        method.after_step(0.5)
        moved = [*method.pair.teacher_encoder.parameters(), *method.pair.teacher_heads.parameters()]
        for old, new, p in zip(teacher, moved, student, strict=True):
            assert_allclose(new, momentum * old + (1 - momentum) * p.detach(), atol=1e-6)


@masking
def test_the_centers_move_to_the_mean_of_raw_logits_and_stay_in_eval_mode(kind: str) -> None:
    method = made(kind, centering="center")
    logits: list[Tensor] = []
    method.pair.teacher_heads.network.register_forward_hook(lambda _module, _given, out: logits.extend(out))
    terms_of(method.eval())
    centers = [method.pair.crop_targets.center, method.pair.patch_targets.center]
    assert not any(center.any() for center in centers)
    terms_of(method.train())
    for center, of in zip(centers, logits[2:], strict=True):
        assert_allclose(center, 0.1 * of.mean(dim=0), atol=1e-6)


@masking
def test_the_last_layers_stand_still_at_first_and_then_move(kind: str) -> None:
    method = made(kind, freeze_last_layer=0.2)
    last = [p for name, p in method.pair.heads.named_parameters() if "prototypes" in name or "gain" in name]
    for progress, moves in ((0.0, False), (0.19, False), (0.2, True)):
        before = [p.detach().clone() for p in last]
        step(method, progress)
        method.zero_grad()
        assert [not torch.equal(p, old) for p, old in zip(last, before, strict=True)] == [moves] * len(last)


def test_ibots_patches_go_through_the_head_of_crops_or_one_of_their_own() -> None:
    names = {shared: {name for name, _ in made("ibot", shared_head=shared).pair.heads.named_parameters()} for shared in (True, False)}
    assert {name.split(".")[0] for name in names[True]} == {"crops"}
    assert {name.split(".")[0] for name in names[False]} == {"crops", "patches"}
    method = made("ibot")
    crops, patches = method.pair.heads(torch.ones(1, 32), torch.ones(1, 32))
    assert torch.equal(crops, patches)


@masking
def test_monitors_tell_patches_that_collapsed_to_uniform(kind: str) -> None:
    method = made(kind).eval()
    healthy = method.monitored(views_of(method))["patch_entropy"]
    with torch.no_grad():
        for p in method.pair.teacher_heads.parameters():
            p.zero_()
    assert 0 < healthy < 0.999
    assert_allclose(method.monitored(views_of(method))["patch_entropy"], 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_koleo_is_that_of_each_global_crops_pooled_features(kind: str) -> None:
    """Over both crops at once, an image's two equal crops would be each other's neighbours and the logarithm would explode."""
    method = made(kind, koleo=0.5)
    views = views_of(method)
    views[1] = views[0]
    views[-1] = views[-1][:, :1].expand(-1, 2, -1)
    losses = method.pair(views, 0.9)
    first, second = losses.student.pooled.detach().double().numpy().reshape(2, BATCH, -1)
    assert_allclose(first, second, atol=1e-5)
    assert_allclose(terms_of(method, views)["koleo"].item(), 0.5 * (koleo_by_formula(first) + koleo_by_formula(second)), rtol=1e-3)


# DINOv3's Gram teacher


def parameters(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_the_gram_teacher_is_a_copy_of_the_teacher_that_stands_still_until_the_next() -> None:
    method = made("dinov3", gram_snapshots=(0.3, 0.6), gram_start=0.5, momentum=0.5)
    assert isinstance(method, DINOv3)
    copies: dict[float, Tensor] = {}
    for progress in (0.1, 0.3, 0.4, 0.5, 0.6, 0.7):
        step(method, progress, rate=0.05)
        copies[progress] = parameters(method.gram.teacher)
        assert torch.equal(copies[progress], parameters(method.pair.teacher_encoder)) is (progress in (0.3, 0.6))
    assert not torch.equal(copies[0.1], copies[0.3])
    assert torch.equal(copies[0.3], copies[0.5])
    assert not torch.equal(copies[0.5], copies[0.6])
    assert torch.equal(copies[0.6], copies[0.7])
    assert not any(p.requires_grad for p in method.gram.parameters())


def test_gram_anchoring_begins_at_its_share_and_ties_the_students_patches_of_the_global_crops() -> None:
    method = made("dinov3", gram=2.0, gram_start=0.5)
    step(method, 0.2)
    assert terms_of(method, progress=0.49)["gram"] == 0
    views = views_of(method)
    student = method.pair(views, 0.5).student.patches
    teacher = method.gram.teacher.network.tokens(torch.cat(views[:2])).patches
    assert_allclose(terms_of(method, views, 0.5)["gram"].item(), 2 * gram(student, teacher).item(), rtol=1e-5)
    assert "gram" not in terms_of(made("dinov3", gram=0.0))


def snapshot(value: float, *shares: float) -> Snapshot:
    return Snapshot(layer(value), shares)


def layer(value: float) -> nn.Linear:
    made = nn.Linear(1, 1)
    nn.init.constant_(made.weight, value)
    return made


def holds(snapshot: Snapshot) -> float:
    return float(next(snapshot.teacher.parameters()))


def test_a_snapshot_is_taken_at_the_first_step_at_or_after_its_share_however_long_steps_are() -> None:
    taken = snapshot(-1.0, 0.25, 0.26, 0.9)
    for progress, value in ((0.0, -1.0), (0.2, -1.0), (0.4, 0.4), (0.6, 0.4), (0.95, 0.95), (0.99, 0.95)):
        taken.renew(layer(progress), progress, needed=False)
        assert holds(taken) == pytest.approx(value)


def test_a_training_that_is_resumed_takes_no_snapshot_twice() -> None:
    first = snapshot(-1.0, 0.2)
    first.renew(layer(0.3), 0.3, needed=False)
    resumed = snapshot(-1.0, 0.2)
    resumed.renew(layer(0.1), 0.1, needed=False)
    resumed.load_state_dict(first.state_dict())
    resumed.renew(layer(0.4), 0.4, needed=True)
    assert holds(resumed) == pytest.approx(0.3)


def test_a_phase_that_continues_another_takes_its_own_snapshots_or_keeps_the_one_it_got() -> None:
    first = snapshot(-1.0, 0.2)
    first.renew(layer(0.3), 0.3, needed=False)
    keeps, takes = snapshot(-1.0), snapshot(-1.0, 0.0, 0.5)
    for later in (keeps, takes):
        later.load_state_dict(first.state_dict())
        later.renew(layer(7.0), 0.0, needed=True)
    assert holds(keeps) == pytest.approx(0.3)
    assert holds(takes) == 7.0


def test_a_phase_that_needs_a_gram_teacher_and_got_none_takes_the_teacher() -> None:
    first, second = snapshot(-1.0), snapshot(-2.0)
    first.renew(layer(0.5), 0.5, needed=False)
    second.load_state_dict(first.state_dict())
    second.renew(layer(7.0), 0.0, needed=True)
    second.renew(layer(8.0), 0.1, needed=True)
    assert holds(second) == 7.0


def test_anchoring_from_the_first_step_on_without_a_gram_teacher_of_an_earlier_phase_begins_with_the_teacher() -> None:
    first, second = made("dinov3", momentum=0.5, gram=0.0, gram_snapshots=()), made("dinov3", gram_start=0.0, gram_snapshots=())
    for progress in (0.2, 0.6):
        step(first, progress, rate=0.05)
    second.load_state_dict(first.state_dict())
    views = views_of(second)
    student, crops = second.pair(views, 0.0).student.patches, torch.cat(views[:2])
    random, teacher = (network.tokens(crops).patches for network in (second.gram.teacher.network, second.pair.teacher_encoder.network))
    assert not torch.allclose(gram(student, random), gram(student, teacher), rtol=1e-3)
    assert_allclose(terms_of(second, views, 0.0)["gram"].item(), 2 * gram(student, teacher).item(), rtol=1e-5)
    step(second, 0.0, rate=0.05)
    kept = parameters(second.gram.teacher)
    assert torch.equal(kept, parameters(second.pair.teacher_encoder))
    step(second, 0.1, rate=0.05)
    assert torch.equal(parameters(second.gram.teacher), kept)


def test_the_gram_teachers_crops_are_larger_and_undistorted_ones_of_the_same_boxes() -> None:
    """A bright dot on black is at the same place of both, whatever happened to the colours of the student's crop."""
    views = Views(preset="dinov3", local_count=2, flip=0.5, scale=(0.5, 1.0), noise=0.02)
    method = made("dinov3", views=views, gram_size=32)
    images = torch.zeros(BATCH, 1, 36, 36, dtype=torch.uint8)
    places = torch.randint(10, 26, (BATCH, 2), generator=torch.Generator().manual_seed(0))
    for image, (row, column) in zip(images, places, strict=True):
        image[0, row : row + 3, column : column + 3] = 255
    *crops, first, second = method.views(images, Draw(torch.Generator().manual_seed(1), BATCH))
    assert torch.equal(crops[0], views_with(method, images)[0])
    for crop, larger in zip(crops[:2], (first, second), strict=True):
        assert larger.shape == (BATCH, 1, 32, 32)
        assert larger.min() == -1  # black as it was: no noise, no solarisation, no change of brightness
        seen = [view.flatten(1).argmax(dim=1) for view in (nn.functional.avg_pool2d(larger, 2), crop)]
        rows, columns = ((place // 16).float() for place in seen), ((place % 16).float() for place in seen)
        lit = (larger.amax(dim=(1, 2, 3)) > 0.5) & (crop.amax(dim=(1, 2, 3)) > crop.amin(dim=(1, 2, 3)) + 1)
        near = torch.stack([(a - b).abs() for a, b in (tuple(rows), tuple(columns))]).amax(dim=0) <= 1.5
        assert lit.sum() > BATCH / 3
        assert near[lit].float().mean() > 0.9


def views_with(method: Any, images: Tensor) -> list[Tensor]:
    """The views without Gram crops."""
    plain = made("dinov3", views=method.config.views)
    views: list[Tensor] = plain.views(images, Draw(torch.Generator().manual_seed(1), BATCH))
    return views


def test_patches_of_larger_crops_are_resized_to_the_students_grid() -> None:
    method = made("dinov3", gram_size=32)
    views = views_of(method)
    targets = method._gram_targets(views)
    maps = method.gram.teacher.network.tokens(torch.cat(views[-2:])).patches.mT.reshape(2 * BATCH, 32, 8, 8)
    expected = nn.functional.interpolate(maps, size=(4, 4), mode="bicubic")
    assert_allclose(targets, expected.flatten(2).mT, atol=1e-6)
    assert terms_of(method)["gram"] > 0


# Encoders that these papers have


ENCODERS = {
    "registers, LayerScale": Encoder(name="vit_small_patch14_reg4_dinov2", image_size=28, channels=1, width=32, depth=2, heads=2),
    "SwiGLU": Encoder(name="vit_giant_patch14_reg4_dinov2", image_size=28, channels=1, width=24, depth=2, heads=2),
    "rotary positions": Encoder(
        name="vit_small_patch16_dinov3", image_size=32, channels=1, width=32, depth=2, heads=2, options={"global_pool": "token", "rope_rescale_coords": 2}
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_papers_encoders_can_be_written_and_trained(name: str) -> None:
    encoder = ENCODERS[name]
    backbone: Any = TimmEncoder(encoder).backbone
    assert backbone.num_prefix_tokens == 5
    assert any("ls1" in key or "gamma_1" in key for key in backbone.state_dict())
    assert isinstance(backbone.blocks[0].mlp, GluMlp) is (name == "SwiGLU")
    views = Views(local_count=2, local_size=encoder.patch)
    method = replace(case_of("dinov3", views=views), encoder=encoder).make()
    images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    terms = method(method.views(images, Draw(torch.Generator().manual_seed(0), 4)), 0.9)
    torch.autograd.backward(sum(terms.values()))
    without = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_rotary_positions_are_rescaled_in_training_only_and_again_from_the_same_seed() -> None:
    encoder, images = TimmEncoder(ENCODERS["rotary positions"]), torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if "gamma" in name:  # LayerScale starts at 1e-5, which hides what attention does
                p.fill_(1.0)

    def seen(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return encoder.tokens(images).patches

    assert torch.equal(seen(0), seen(0))
    assert not torch.allclose(seen(0), seen(1), atol=1e-4)
    encoder.eval()
    assert torch.equal(seen(0), seen(1))


# Configs


@pytest.mark.parametrize(
    ("member", "values", "message"),
    [
        (configs.IBOT, {"patch_teacher_temperature": 0.1}, "teacher temperature 0.1 must be below student_temperature 0.1"),
        (configs.DINO, {"teacher_temperature_start": 0.2}, "teacher temperature 0.2 must be below student_temperature 0.1"),
        (configs.DINOv2, {"mask_ratio": (0.5, 0.1)}, "must rise from above 0 to below 1"),
        (configs.DINOv2, {"mask_ratio": (0.1, 1.0)}, "must rise from above 0 to below 1"),
        (configs.DINOv3, {"gram_snapshots": (0.2, 0.1)}, "must rise"),
        (configs.DINOv3, {"gram_start": 0.1}, "the first of gram_snapshots, 0.17, is after gram_start 0.1"),
        (configs.DINOv3, {"gram_size": 512, "views": Views(rotation=5.0)}, "without rotation and shear"),
    ],
)
def test_what_cannot_work_is_refused(member: Callable[..., Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        member(**values)


# Several processes

SHARED = {
    "dino-sinkhorn": lambda: case_of("dino", centering="sinkhorn"),
    "ibot-sinkhorn": lambda: case_of("ibot", centering="sinkhorn", shared_head=False),
    "dinov2-center": lambda: case_of("dinov2", centering="center"),
    "dinov3-gram": lambda: case_of("dinov3", gram_size=32, gram_snapshots=(0.4,), gram_start=0.5),
}
"""What a method does not do unless it is told to; the defaults are in test_distributed.py."""


def work(rank: int, port: int, folder: Path) -> None:
    """One of two processes, as torchrun would start it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    distributed.start()
    found = {name: few_steps(case()) for name, case in SHARED.items()}
    distributed.stop()
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_train_as_one(name: str, ranks: list[dict[str, Any]]) -> None:
    alone = few_steps(SHARED[name]())
    assert alone["gradients"]
    for rank in ranks:
        torch.testing.assert_close(rank[name], alone, rtol=1e-8, atol=1e-8)
