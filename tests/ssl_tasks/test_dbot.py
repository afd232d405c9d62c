"""dBOT: what is told of masked patches, and stages in which a student becomes the teacher and a new one begins, once each, across a resume too."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from masked_views import blocks_of, draw, drift, make, over_pixels, pictures, seen
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import DBOT
from schemas.training import AdamW, Train
from schemas.views import Views
from ssl_tasks.schedules import learning_rate

SMALL = DBOT(decoder_width=32, decoder_depth=1, decoder_heads=2)
STEPS = 12


# What is told


def test_the_loss_is_the_smooth_l1_distance_to_the_teachers_normalised_last_block_where_masked() -> None:
    method = make(SMALL)
    drift(method)
    images, mask = seen(method)
    last = blocks_of(method.teacher.network, images)[-1].numpy()
    target = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-5)
    distance = abs(method.predicted(images, mask).detach().numpy() - target)[mask.numpy()]
    expected = np.where(distance < 2, distance**2 / 4, distance - 1).mean()
    assert_allclose(method([images, mask], 0.5)["dbot"].item(), expected, rtol=1e-9)


def test_the_student_sees_no_masked_pixel_and_the_teacher_sees_all() -> None:
    method = make(SMALL).eval()
    images, mask = seen(method)
    altered = torch.where(over_pixels(mask), images + 3, images)
    assert torch.equal(method.predicted(altered, mask), method.predicted(images, mask))
    assert not torch.allclose(method.predicted(images * 0.9, mask), method.predicted(images, mask))
    assert not torch.allclose(method.targets(altered), method.targets(images))


def test_no_gradient_flows_into_targets_or_the_teacher() -> None:
    method = make(SMALL)
    images, mask = seen(method)
    images.requires_grad_()
    torch.autograd.backward(method([images, mask], 0.5)["dbot"])
    assert images.grad is not None
    assert torch.equal(images.grad != 0, ~over_pixels(mask))
    assert all(p.grad is None for p in method.teacher.parameters())


def test_three_quarters_are_masked() -> None:
    method = make(SMALL, image_size=224, patch_size=16, depth=1)
    assert method.views(pictures(2), draw(2))[1].sum(1).tolist() == [147, 147]


def test_the_monitor_sees_a_teacher_that_tells_all_images_alike() -> None:
    method = make(SMALL).eval()
    assert method.monitored(seen(method))["target_image_std"] > 0.1
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.zero_()
    assert method.monitored(seen(method))["target_std"] < 1e-6


# Stages


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def one_step(method: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(method(seen(method, seed=step), step / STEPS)["dbot"])
    optimizer.step()


def adam(method: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-3)


def test_at_the_end_of_a_stage_the_student_becomes_the_teacher_and_begins_anew_and_at_no_other_step() -> None:
    method = make(SMALL)
    first, beginning, optimizer = weights(method.teacher), [weights(method.encoder), weights(method.decoder)], adam(method)
    assert torch.equal(first, beginning[0])
    refreshed: list[int] = []
    for step in range(STEPS):
        teacher = weights(method.teacher)
        one_step(method, optimizer, step)
        student = weights(method.encoder)
        method.after_step(step / STEPS)
        if torch.equal(weights(method.teacher), teacher):
            assert torch.equal(weights(method.encoder), student)
            continue
        refreshed.append(step)
        assert torch.equal(weights(method.teacher), student)
        assert [torch.equal(weights(part), was) for part, was in zip((method.encoder, method.decoder), beginning, strict=True)] == [True, True]
    assert refreshed == [4, 8]  # the first steps at or behind a third and two thirds
    assert not torch.equal(weights(method.encoder), beginning[0])


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("steps", [7, 10, 33, 100, 120])
def test_there_is_one_refresh_less_than_stages_whatever_the_number_of_steps(stages: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    method, done = make(SMALL.model_copy(update={"stages": stages}), depth=1), list[int]()
    for step in range(steps):
        monkeypatch.setattr(method, "_begin_stage", lambda step=step: done.append(step))
        method.after_step(step / steps)
    assert done == [next(step for step in range(steps) if step * stages >= stage * steps) for stage in range(1, stages)]


@pytest.mark.parametrize("stopped", [3, 4, 5])
def test_a_training_that_is_resumed_around_a_boundary_ends_as_one_that_was_not(stopped: int) -> None:
    """It was stopped after the last step of a stage, after the step that begins the next one, and after the one behind it."""
    whole = make(SMALL)
    optimizer = adam(whole)
    for step in range(STEPS):
        one_step(whole, optimizer, step)
        whole.after_step(step / STEPS)
        if step == stopped:
            state = deepcopy((whole.state_dict(), optimizer.state_dict()))
    resumed = make(SMALL)
    drift(resumed)
    resumed.after_step(0.9)  # of another training, all of which is replaced
    resumed.load_state_dict(state[0])
    optimizer = adam(resumed)
    optimizer.load_state_dict(state[1])
    for step in range(stopped + 1, STEPS):
        one_step(resumed, optimizer, step)
        resumed.after_step(step / STEPS)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_training_that_goes_on_from_another_one_begins_with_its_student_and_teacher() -> None:
    method = make(SMALL)
    for progress in (0.0, 0.9):
        drift(method)
        method.after_step(progress)
    assert int(method.stage) == 2
    teacher = weights(method.teacher)
    drift(method)
    student = weights(method.encoder)
    method.after_step(0.0)
    assert torch.equal(weights(method.teacher), teacher)
    assert torch.equal(weights(method.encoder), student)
    method.after_step(0.5)
    assert torch.equal(weights(method.teacher), student)


def test_each_stage_has_the_schedule_of_the_learning_rate_for_itself() -> None:
    method, config = make(SMALL), Train(optimizer=AdamW(learning_rate=1e-3), warmup=0.1)
    rates = [learning_rate(place, config, 1.0) * factor for place, factor in (method.pace((step + 0.5) / 300) for step in range(300))]
    assert_allclose(rates[:100], rates[100:200], rtol=0, atol=1e-9)
    assert_allclose(rates[:100], rates[200:], rtol=0, atol=1e-9)
    assert rates[0] < 0.06
    assert max(rates[:100]) > 0.99
    assert rates[99] < 0.01
    assert rates[100] < 0.06, "the step that begins a stage hardly moves the student that is taken over behind it"


# Config


def test_a_single_patch_cannot_be_masked() -> None:
    with pytest.raises(UserError, match=r"^dbot: encoder.image_size 16 is a single patch"):
        make(SMALL, patch_size=16)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"stages": 0}, "greater than 0"),
        ({"decoder_width": 100}, "decoder_width 100 is not a multiple of decoder_heads 16"),
        ({"decoder_width": 30, "decoder_heads": 3}, "decoder_width 30 is not a multiple of 4"),
        ({"views": Views(count=2)}, "this method .* count must be 1"),
    ],
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        DBOT(**config)
