"""iBOT, DINOv2 and DINOv3: masked crops, teachers, centers and last layers, one mechanism at a time."""

import numpy as np
import pytest
import torch
from dino_family import made, step, terms_of, views_of
from formulas import koleo_by_formula, softmax
from numpy.testing import assert_allclose
from small_methods import BATCH
from torch import Tensor

# iBOT and its heirs

masking = pytest.mark.parametrize("kind", ["ibot", "dinov2", "dinov3"])


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
