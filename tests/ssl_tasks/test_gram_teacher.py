"""DINOv3's Gram teacher: when it is copied, when it anchors, and the crops it sees."""

from typing import Any

import pytest
import torch
from dino_family import made, step, terms_of, views_of
from numpy.testing import assert_allclose
from small_methods import BATCH
from torch import Tensor, nn

from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.gram import gram
from ssl_tasks.methods.self_distillation.dinov3 import DINOv3
from ssl_tasks.nn.snapshot import Snapshot

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
