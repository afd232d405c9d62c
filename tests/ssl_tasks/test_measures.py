"""What methods report of themselves, against the formulas in float64 NumPy and against values that are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_tasks.losses.self_distillation import center_and_sharpen
from ssl_tasks.measures import agreement, distillation, distribution, embedding, signal_gain


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_embedding_is_the_spread_of_what_the_loss_sees_normalised_and_as_it_comes_and_its_rank() -> None:
    z = normal(50, 6) * torch.arange(1, 7) + 3
    rows = z.numpy()
    unit = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    shares = values / values.sum() + 1e-7
    seen = embedding(z)
    assert seen["embedding_std"] == pytest.approx(unit.std(axis=0, ddof=1).mean() * math.sqrt(6), rel=1e-5)
    assert seen["embedding_raw_std"] == pytest.approx(rows.std(axis=0, ddof=1).mean(), rel=1e-5)
    assert seen["embedding_rank"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-5)


def test_embeddings_that_are_even_on_the_sphere_have_a_spread_of_one_and_full_rank() -> None:
    seen = embedding(normal(4000, 16))
    assert seen["embedding_std"] == pytest.approx(1, abs=0.01)
    assert seen["embedding_rank"] == pytest.approx(16, abs=0.1)


def test_each_spread_misses_what_another_sees() -> None:
    """All on a line, which a batch norm spreads: only the rank. Tiny but even: only the raw spread. Far from 0: only the normalised one."""
    line, tiny, far = normal(200, 1).expand(200, 8), normal(200, 8) * 1e-3, normal(200, 8) + 1000
    assert embedding(line)["embedding_raw_std"] > 0.9
    assert embedding(line)["embedding_std"] > 0.9
    assert embedding(line)["embedding_rank"] == pytest.approx(1, abs=1e-3)
    assert embedding(tiny)["embedding_std"] > 0.9
    assert embedding(tiny)["embedding_raw_std"] < 0.002
    assert embedding(far)["embedding_raw_std"] > 0.9
    assert embedding(far)["embedding_std"] < 0.002


@pytest.mark.parametrize(
    ("probs", "teacher", "mean", "used"),
    [
        (torch.full((6, 4), 0.25), 1.0, 1.0, 1 / 4),
        (torch.eye(4)[[0, 0, 0, 0, 0]], 0.0, 0.0, 1 / 4),
        (torch.eye(4)[[0, 1, 2, 3]], 0.0, 1.0, 1.0),
        (torch.eye(4)[[0, 0, 1, 1]], 0.0, 0.5, 2 / 4),
        (torch.eye(9)[[0, 4, 8]], 0.0, 0.5, 1.0),
    ],
    ids=["uniform", "one-hot", "sharp and even", "half of them dead", "more prototypes than images"],
)
def test_distributions_whose_entropies_are_known(probs: Tensor, teacher: float, mean: float, used: float) -> None:
    seen = distribution(probs)
    assert seen["teacher_entropy"] == pytest.approx(teacher, abs=1e-6)
    assert seen["mean_entropy"] == pytest.approx(mean, abs=1e-6)
    assert seen["prototypes_used"] == pytest.approx(used)


def test_the_divergence_of_a_student_is_that_of_its_softmax() -> None:
    probs, logits = torch.softmax(normal(8, 5), dim=1), normal(8, 5, seed=1)
    said = np.exp(logits.numpy() / 0.1)
    said /= said.sum(axis=1, keepdims=True)
    p = probs.numpy()
    seen = distillation(probs, logits, 0.1, sharpest=0.04, views=2)
    assert seen["teacher_student_kl"] == pytest.approx((p * np.log(p / said)).sum(axis=1).mean(), rel=1e-4)
    assert seen["signal_gain"] == pytest.approx(signal_gain(logits[:4], logits[4:], 0.1, 0.04))
    assert "signal_gain" not in distillation(probs, logits, 0.1, sharpest=0.04, views=1)


def test_views_agree_fully_not_at_all_or_by_the_share_that_they_have_in_common() -> None:
    content, noise, other = normal(20_000, 4), normal(20_000, 4, seed=1), normal(20_000, 4, seed=2)
    assert agreement(content, 3 * content + 7) == pytest.approx(1)
    assert agreement(content, noise) == pytest.approx(0, abs=0.01)
    assert agreement(content + noise, content + other) == pytest.approx(0.5, abs=0.01)
    assert agreement(torch.ones(5, 3), torch.ones(5, 3)) == 0


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0], ids=lambda noise: f"noise {noise}")
def test_the_gain_is_what_a_turn_of_teacher_and_best_student_multiplies_the_signal_by(noise: float) -> None:
    """Linear student, least squares: the turn is taken here step by step, from a teacher that is nearly uniform."""
    content = normal(30_000, 5)
    first, second = (content + noise * normal(30_000, 5, seed=seed) for seed in (1, 2))
    prototypes = normal(5, 12, seed=3) * 1e-4
    targets = center_and_sharpen(second @ prototypes, (second @ prototypes).mean(dim=0), 0.04)
    log_targets = targets.log() - targets.log().mean(dim=1, keepdim=True)
    student = torch.linalg.lstsq(first, log_targets).solution * 0.1
    turned = (student - student.mean(dim=1, keepdim=True)).norm() / (prototypes - prototypes.mean(dim=1, keepdim=True)).norm()
    assert turned.item() == pytest.approx(signal_gain(first @ prototypes, second @ prototypes, 0.1, 0.04), rel=0.03)
    assert turned.item() == pytest.approx(2.5 / (1 + noise**2), rel=0.03)
