"""The discrete VAE: its losses against the papers' formulas, its words, and how softly they are drawn."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from schemas.dvae import DVAE as DVAEConfig
from ssl_tasks.losses.words import FINEST, MARGIN, gumbel_softmax, kl_to_uniform, logit_laplace, told_words
from ssl_tasks.measures import perplexity
from ssl_tasks.nn.dvae import DVAE

SHAPE = DVAEConfig(image_size=24, patch_size=6, channels=1, vocabulary=10, dim=6, width=8, depth=1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(config: DVAEConfig = SHAPE, seed: int = 0) -> DVAE:
    torch.manual_seed(seed)
    return DVAE(config).eval()


def test_the_reconstruction_is_the_likelihood_of_a_logit_laplace_distribution() -> None:
    median, log_scale, pixels = normal(3, 2, 4), normal(3, 2, 4, seed=1), normal(3, 2, 4, seed=2).sigmoid()
    mu, b = median.numpy(), np.exp(np.maximum(log_scale.numpy(), math.log(0.035)))
    x = 0.1 + 0.8 * pixels.numpy()
    density = np.exp(-np.abs(np.log(x / (1 - x)) - mu) / b) / (2 * b * x * (1 - x))
    assert logit_laplace(median, log_scale, pixels).item() == pytest.approx(-np.log(density).mean(), rel=1e-12)


def test_that_distribution_is_one_of_all_values() -> None:
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)[1:-1]
    inner = (x - MARGIN) / (1 - 2 * MARGIN)  # what is moved to x, also outside of [0, 1]
    mass = sum(torch.exp(-logit_laplace(torch.tensor(0.3).double(), torch.tensor(-0.5).double(), value)) for value in inner[::200]) * 200 * (x[1] - x[0])
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_no_pixel_is_told_finer_than_eight_bits() -> None:
    step = math.log(0.1 + 0.8 / 255) - math.log(0.9 - 0.8 / 255) - (math.log(0.1) - math.log(0.9))
    assert math.exp(FINEST) == pytest.approx(step, rel=0.02)
    black, sure = torch.zeros(4), torch.full((4,), math.log(MARGIN / (1 - MARGIN)))
    finest, finer = (logit_laplace(sure, torch.full((4,), scale), black).item() for scale in (FINEST, -30.0))
    assert finer == finest


def test_the_divergence_from_uniform_is_none_of_equal_words_and_ln_k_of_a_sure_one() -> None:
    logits = normal(4, 5, 7)
    q = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    assert kl_to_uniform(logits).item() == pytest.approx((q * np.log(q * 7)).sum(-1).mean(), rel=1e-12)
    assert kl_to_uniform(torch.zeros(2, 3, 8192)).item() == pytest.approx(0, abs=1e-5)
    assert kl_to_uniform(1e4 * torch.eye(8)[None]).item() == pytest.approx(math.log(8), rel=1e-6)


def test_who_knows_nothing_of_a_word_stands_at_ln_of_the_vocabulary() -> None:
    words = torch.randint(0, 313, (4, 6), generator=torch.Generator().manual_seed(0))
    assert told_words(torch.zeros(4, 6, 313), words).item() == pytest.approx(math.log(313), rel=1e-6)
    logits = normal(4, 6, 313)
    share = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    told = np.take_along_axis(share, words.numpy()[..., None], -1)
    assert told_words(logits, words).item() == pytest.approx(-np.log(told).mean(), rel=1e-12)


def test_drawn_words_are_as_frequent_as_they_are_likely_and_grow_sharp_as_it_cools() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    uniform = torch.rand(1, 40_000, 3, generator=torch.Generator().manual_seed(0))
    cold, warm = (gumbel_softmax(logits.expand(1, 40_000, 3), uniform, temperature) for temperature in (0.0625, 1.0))
    frequency = torch.bincount(cold.argmax(-1).flatten()) / 40_000
    assert torch.allclose(frequency, logits.softmax(0), atol=0.01)  # three standard errors
    assert torch.equal(cold.argmax(-1), warm.argmax(-1))
    assert cold.amax(-1).mean() > 0.97 > 0.8 > warm.amax(-1).mean()


def test_a_draw_of_zero_is_no_word_and_not_a_number_that_spoils_the_others() -> None:
    drawn = gumbel_softmax(torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.5, 1 - 2**-24]]]), 0.0625)
    assert drawn.isfinite().all()
    assert drawn[0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(("size", "patch"), [(24, 6), (28, 14), (16, 16), (8, 1), (21, 7)])
def test_any_patch_gives_a_word_a_patch_and_an_image_of_its_size(size: int, patch: int) -> None:
    made = network(SHAPE.model_copy(update={"image_size": size, "patch_size": patch}))
    images, grid = torch.randn(2, 1, size, size), size // patch
    words = made.words(images)
    assert made.logits(images).shape == (2, grid * grid, 10)
    assert (words.shape, words.dtype) == ((2, grid * grid), torch.int64)
    assert [part.shape for part in made.drawn(words)] == [(2, 1, size, size)] * 2


def test_words_stand_row_by_row_as_an_encoder_numbers_its_patches() -> None:
    """A change inside of a patch moves the logits of its own place most."""
    made, images = network(), torch.zeros(1, 1, 24, 24)
    for place in (0, 1, 4, 15):
        changed = images.clone()
        top, left = 6 * (place // 4), 6 * (place % 4)
        changed[..., top : top + 6, left : left + 6] = 3
        moved = (made.logits(changed) - made.logits(images)).abs().sum(-1)
        assert moved.argmax().item() == place


def test_a_word_and_all_of_the_weight_on_it_draw_the_same() -> None:
    made, words = network(), torch.randint(0, 10, (2, 16), generator=torch.Generator().manual_seed(0))
    one_hot = torch.nn.functional.one_hot(words, 10).float()
    for ours, theirs in zip(made.drawn(words), made.drawn(one_hot), strict=True):
        assert torch.equal(ours, theirs)


def test_a_network_is_made_to_fit_a_state_dict() -> None:
    first = network()
    state = {f"tokenizer.{name}": value for name, value in first.state_dict().items()}
    second = DVAE.fitting(state, "tokenizer.")
    second.load_state_dict(first.state_dict())
    assert second.config == first.config


def test_perplexity_counts_words_that_are_evenly_used() -> None:
    assert perplexity(torch.arange(8).repeat(5), 100) == pytest.approx(8)
    assert perplexity(torch.zeros(3, 4, dtype=torch.int64), 100) == pytest.approx(1)


def test_an_image_that_cannot_be_cut_in_words_is_refused() -> None:
    with pytest.raises(ValidationError, match="image_size 30 is not a multiple of patch_size 16"):
        DVAEConfig(image_size=30)
