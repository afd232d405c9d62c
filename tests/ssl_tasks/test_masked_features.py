"""Students that predict what their teacher says of patches that are masked for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_methods import BATCH, ENCODERS
from test_distill import teach, workspace
from test_feature_distillers import COARSE, lesson_of, losses, student, study, terms, views
from tiny_training import VIT

from schemas.distillers import MaskedFeature
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.distill.objective import Lesson

__all__ = ["workspace"]


def test_a_share_of_each_views_patches_is_masked_every_image_and_view_otherwise() -> None:
    made = student(MaskedFeature(mask_ratio=0.6), ENCODERS["vit"])
    taught = lesson_of(made)
    pair = Lesson(taught.teacher, views() * 2, 2, taught.rows, taught.labels, 3, BATCH)
    masks = made.each()[0].mask(pair, 4)
    assert masks is not None
    assert masks.shape == (2 * BATCH, 16)
    assert (masks.sum(dim=1) == 10).all(), "0.6 of 16, rounded"
    assert len(masks.unique(dim=0)) > BATCH
    assert torch.equal(masks, made.each()[0].mask(pair, 4))  # type: ignore[arg-type]  # it is no None


@pytest.mark.parametrize("masking", ["random", "block"])
def test_the_loss_is_a_mean_over_masked_patches_and_the_image(masking: Any) -> None:
    """Of the standardised features of a teacher that sees everything; by the formula of https://github.com/liuxingbin/dbot."""
    made = student(MaskedFeature(mask_ratio=0.5, masking=masking, beta=0.7), ENCODERS["vit"]).eval()
    taught, objective = lesson_of(made), made.each()[0]
    own: Any = objective
    mask = objective.mask(taught, 4)
    assert mask is not None
    assert taught.teacher is not None
    seen = made.network(views(), (), mask, made.mask_token)
    tokens = [(own.of_image(seen.pooled)[b], taught.teacher.pooled[b]) for b in range(BATCH)]
    assert seen.places is not None
    assert taught.teacher.places is not None
    predicted = own.of_patches(seen.places)
    tokens += [(predicted[b, n], taught.teacher.places[b, n]) for b in range(BATCH) for n in range(16) if mask[b, n]]
    losses = []
    for guess, target in tokens:
        t = target.double().numpy()
        d = guess.detach().double().numpy() - (t - t.mean()) / np.sqrt(t.var(ddof=1) + 1e-6)
        losses.append(np.where(abs(d) < 0.7, d * d / 1.4, abs(d) - 0.35).mean())
    found = terms(made)
    assert set(found) == {"masked_patches", "masked_image"}
    assert_allclose(sum(found.values()), np.mean(losses), rtol=1e-5)


def test_what_is_masked_is_not_seen() -> None:
    made = student(MaskedFeature(), ENCODERS["vit"]).eval()
    mask = made.each()[0].mask(lesson_of(made), 4)
    assert mask is not None
    shown = mask.view(BATCH, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    altered = torch.where(shown, 7.0, views()[0])
    first, second = (made.network([x], (), mask, made.mask_token).pooled for x in (views()[0], altered))
    assert torch.equal(first, second)
    assert not torch.allclose(made.network([altered]).pooled, made.network(views()).pooled)


def test_targets_of_another_grid_are_resampled_to_the_students_patches() -> None:
    made = student(MaskedFeature(), COARSE)
    assert made.each()[0].mask(lesson_of(made), 2).shape == (BATCH, 4)  # type: ignore[union-attr]  # it is no None
    assert all(term > 0 for term in terms(made).values())


def test_a_student_becomes_the_teacher_of_the_next_stage(workspace: Path) -> None:
    """dBOT's stages: the second student begins anew, under the first."""
    teach(workspace)
    first, _ = study(workspace, MaskedFeature(), VIT, "first")
    second, tracker = study(workspace, MaskedFeature(), VIT, "second", taught_by="first")
    assert losses(tracker)[-1] < losses(tracker)[0] - 0.02
    assert first.files[WEIGHTS] != second.files[WEIGHTS]
