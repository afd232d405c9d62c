"""Context encoder and denoising autoencoder: losses by hand, what is hidden and what is painted, and one backward pass for two opponents."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import Tensor

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import ContextEncoder as ContextEncoderConfig
from schemas.methods import DenoisingAutoencoder as DenoisingAutoencoderConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import MEAN_STD, pixels
from ssl_tasks.losses.adversarial import discriminator, generator
from ssl_tasks.losses.reconstruction import border, weighted_mse
from ssl_tasks.methods.pretext.context_encoder import ContextEncoder
from ssl_tasks.methods.pretext.denoising_autoencoder import DenoisingAutoencoder
from ssl_tasks.nn.discriminator import Discriminator
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.pixel_decoder import Everywhere, PixelDecoder, doublings, grid_of

TINY: dict[str, Any] = {"name": "vit_tiny_patch16_224", "image_size": 32, "patch_size": 4, "width": 32, "depth": 1, "heads": 2, "channels": 1}
BATCH = 6


def encoder(**changed: Any) -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(Encoder(**{**TINY, **changed}))


def context(shape: dict[str, Any] | None = None, **config: Any) -> ContextEncoder:
    return ContextEncoder(ContextEncoderConfig(**{"decoder_width": 16, "discriminator_width": 8, **config}), encoder(**(shape or {}))).double()


def denoising(shape: dict[str, Any] | None = None, **config: Any) -> DenoisingAutoencoder:
    return DenoisingAutoencoder(DenoisingAutoencoderConfig(**{"decoder_width": 16, **config}), encoder(**(shape or {}))).double()


def crops(side: int = 32, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(BATCH, channels, side, side, generator=torch.Generator().manual_seed(seed)).double()


def photographs(channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (BATCH, channels, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def draw(own: slice = slice(None)) -> Draw:
    return Draw(torch.Generator().manual_seed(0), BATCH, own)


# Losses


def test_the_error_is_the_mean_over_all_pixels_of_weighted_squares() -> None:
    rebuilt, images, weights = crops(3), crops(3, seed=1), torch.rand(3, 3).double()
    total = sum(float(weights[y, x]) * float(rebuilt[b, 0, y, x] - images[b, 0, y, x]) ** 2 for b, y, x in np.ndindex(BATCH, 3, 3))
    assert_allclose(weighted_mse(rebuilt, images, weights), total / (BATCH * 9), rtol=1e-12)
    assert_allclose(weighted_mse(rebuilt, images), np.square(rebuilt.numpy() - images.numpy()).mean(), rtol=1e-12)


def test_a_border_weighs_ten_times_its_inside() -> None:
    weights = border(6, 2, 10.0, torch.device("cpu"))
    assert weights[2:4, 2:4].tolist() == [[1, 1], [1, 1]]
    assert weights.sum() == 4 + 10 * 32
    assert torch.equal(border(6, 0, 10.0, torch.device("cpu")), torch.ones(6, 6))


def test_opponents_are_judged_by_binary_cross_entropy() -> None:
    real, made = np.random.default_rng(0).normal(size=(2, 7))
    d_real, d_made = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-made))
    assert_allclose(discriminator(torch.from_numpy(real), torch.from_numpy(made)), -(np.log(d_real) + np.log(1 - d_made)).mean(), rtol=1e-12)
    assert_allclose(generator(torch.from_numpy(made), torch.from_numpy(made)), -np.log(d_made).mean(), rtol=1e-12)
    assert_allclose(discriminator(torch.zeros(3).double(), torch.zeros(3).double()), 2 * math.log(2), rtol=1e-12)


# Context encoder: two opponents, one backward pass


def gradients(method: ContextEncoder, *names: str) -> dict[str, Tensor]:
    """Of some of the terms, by parameter."""
    method.zero_grad()
    terms = method([crops()], 0.5)
    torch.autograd.backward(torch.stack([terms[name] for name in names or terms]).sum())
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-14}


def test_the_discriminator_learns_to_tell_and_nothing_else() -> None:
    method = context(adversarial=0.5)
    alone, both = gradients(method, "discriminator"), gradients(method)
    judges = {name for name, _ in method.named_parameters() if name.startswith("discriminator.")}
    assert set(alone) == judges
    for name in judges:
        torch.testing.assert_close(both[name], alone[name], rtol=1e-9, atol=1e-12)
    assert not judges & set(gradients(method, "adversarial"))


def test_who_paints_learns_to_be_taken_for_real() -> None:
    """The gradient is that of -log D(x^), by a discriminator that stands still."""
    method = context(adversarial=0.5)
    found = gradients(method, "adversarial")
    method.zero_grad()
    judged = method.discriminator(method.painted(crops()))
    torch.autograd.backward(-0.5 * torch.sigmoid(judged).log().mean())
    for name, p in method.named_parameters():
        if name in found:
            assert p.grad is not None
            torch.testing.assert_close(found[name], p.grad, rtol=1e-9, atol=1e-14)
    assert any(name.startswith("encoder.") for name in found)
    assert any(name.startswith("decoder.") for name in found)


def test_a_small_step_makes_the_discriminator_surer_and_the_painting_better_taken() -> None:
    method = context(adversarial=1.0)
    parts = {"discriminator": list(method.discriminator.parameters()), "adversarial": [*method.decoder.parameters(), *method.join.parameters()]}
    for term, stepping in parts.items():
        before = method([crops()], 0.5)
        gradients(method)
        with torch.no_grad():
            for p in stepping:
                assert p.grad is not None
                p.sub_(1e-3 * p.grad)
        assert method([crops()], 0.5)[term] < before[term]


def test_the_squared_error_and_the_opponent_share_their_weight() -> None:
    method = context(adversarial=0.25)
    terms, painted, real = method([crops()], 0.5), method.painted(crops()), crops()[:, :, 8:24, 8:24]
    weights = np.full((16, 16), 10.0)
    weights[1:15, 1:15] = 1
    assert_allclose(terms["reconstruction"].item(), 0.75 * (weights * np.square((painted - real).detach().numpy())).mean(), rtol=1e-9)


# Context encoder: what is hidden


def test_hidden_pixels_cannot_be_seen_and_all_others_can() -> None:
    method = context().eval()
    images = crops().requires_grad_()
    torch.autograd.backward(method.painted(images).sin().sum())
    assert images.grad is not None
    hidden = torch.zeros(32, 32, dtype=torch.bool)
    hidden[9:23, 9:23] = True  # the middle is 8 to 24, of which one pixel at each border is seen
    assert torch.equal(images.grad[:, 0] == 0, hidden.expand(BATCH, -1, -1))
    assert torch.equal(method.painted(torch.where(hidden, 100.0, crops())), method.painted(crops()))


@pytest.mark.parametrize(("size", "side", "overlap"), [(224, 112, 7), (128, 64, 4), (16, 8, 1)])
def test_the_middle_is_half_the_image_and_overlaps_as_in_paper_and_code(size: int, side: int, overlap: int) -> None:
    method = context({"image_size": size, "patch_size": size // 4})
    assert (method.side, method.start, method.overlap) == (side, size // 4, overlap)


@pytest.mark.parametrize(
    "shape", [{"name": "resnet18", "patch_size": None, "width": None, "depth": None, "heads": None, "image_size": 72}, {"image_size": 30, "patch_size": 6}]
)
def test_grids_that_double_to_no_round_number_are_painted_too(shape: dict[str, Any]) -> None:
    method = context(shape)
    side = method.encoder.config.image_size
    assert method.painted(crops(side)).shape == (BATCH, 1, side // 2, side // 2)


def test_an_image_without_a_middle_is_refused() -> None:
    with pytest.raises(UserError, match=r"^context_encoder: encoder.image_size 4 is too small to hide its middle: set it to 8 or more"):
        context({"image_size": 4})


# Denoising autoencoder


def test_masked_pixels_are_gone_in_all_channels_and_others_untouched() -> None:
    method = denoising({"channels": 3}, share=0.25)
    clean = method.views(photographs(), draw())[0]
    corrupted = method.corrupted(clean, draw())
    gone = (corrupted != clean).any(dim=1)
    assert (corrupted.movedim(1, 3)[gone] == 0).all()
    assert (gone.double().mean() - 0.25).abs() < 4.5 * math.sqrt(0.25 * 0.75 / gone.numel())
    assert (corrupted.movedim(1, 3)[~gone] == clean.movedim(1, 3)[~gone]).all()
    other = torch.where(gone[:, None], clean + 3, clean)
    assert torch.equal(method.corrupted(other, draw()), corrupted)  # nothing is left of what was there


def test_gaussian_noise_is_of_its_sigma_and_salt_is_as_frequent_as_pepper() -> None:
    gaussian = denoising({"channels": 3}, noise="gaussian", sigma=0.1)
    clean, corrupted = gaussian.views(photographs(), draw())
    noise = (corrupted - clean) * torch.tensor(MEAN_STD[3][1]).view(3, 1, 1)
    assert_allclose(noise.std(), 0.1, rtol=0.02)
    assert abs(noise.mean()) < 4.5 * 0.1 / math.sqrt(noise.numel())
    seen, spoilt = map(pixels, denoising({"channels": 3}, noise="salt_and_pepper", share=0.4).views(photographs(), draw()))
    changed = (seen - spoilt).abs().amax(1) > 1e-4
    values = spoilt.movedim(1, 3)[changed]
    torch.testing.assert_close(values.amax(1), values.amin(1))
    assert set(values.unique().round(decimals=5).tolist()) == {0.0, 1.0}
    assert abs(values.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(len(values))


@pytest.mark.parametrize("noise", ["masking", "gaussian", "salt_and_pepper"])
def test_the_clean_image_is_rebuilt_from_the_corrupted_one_alone(noise: str) -> None:
    method = denoising(noise=noise).eval()
    clean, corrupted = (view.double() for view in method.views(photographs(1), draw()))
    expected = np.square((method.rebuilt(corrupted) - clean).detach().numpy()).mean()
    assert_allclose(method([clean, corrupted], 0.5)["reconstruction"].item(), expected, rtol=1e-9)


@pytest.mark.parametrize("noise", ["masking", "gaussian", "salt_and_pepper"])
def test_each_process_has_its_rows_of_the_noise_of_one(noise: str) -> None:
    method = denoising(noise=noise)
    whole = method.views(photographs(1), draw())[1]
    parts = [method.views(photographs(1)[own], draw(own))[1] for own in (slice(0, 2), slice(2, BATCH))]
    assert torch.equal(torch.cat(parts), whole)


# Decoders


def test_a_decoder_puts_each_place_where_it_is() -> None:
    decoder = PixelDecoder(8, 16, 3, doublings=2).double().eval()
    places = torch.randn(1, 49, 8).double().requires_grad_()
    image = decoder(places)
    assert image.shape == (1, 3, 28, 28)
    torch.autograd.backward(image[0, :, 24:, 24:].sum())
    assert places.grad is not None
    reached = (places.grad[0].abs().sum(1) > 0).view(7, 7)
    assert reached[6, 6]
    assert not reached[:4].any()
    assert not reached[:, :4].any()
    assert PixelDecoder(8, 16, 5)(torch.randn(2, 9, 8)).shape == (2, 5, 3, 3)


@pytest.mark.parametrize(("grid", "size", "expected"), [(14, 224, 4), (7, 224, 5), (16, 224, 3), (4, 16, 2), (3, 3, 0)])
def test_a_grid_is_doubled_until_it_would_be_larger_than_the_image(grid: int, size: int, expected: int) -> None:
    assert doublings(grid, size) == expected


def test_every_place_reaches_every_other() -> None:
    layer, places = Everywhere(6, 5, 9, 4).double(), torch.randn(2, 9, 6).double()
    narrow = layer.narrow(places).relu()
    expected = np.stack([[narrow[b, :, c].detach().numpy() @ layer.weight[c].detach().numpy() for c in range(5)] for b in range(2)])
    assert_allclose(layer(places).detach().numpy(), expected.transpose(0, 2, 1), rtol=1e-9)


@pytest.mark.parametrize("side", [4, 7, 16, 64, 112])
def test_a_discriminator_says_one_number_of_a_square_of_any_side(side: int) -> None:
    assert Discriminator(3, side, 8)(torch.randn(2, 3, side, side)).shape == (2,)


def test_the_grid_of_an_encoder_is_found_without_changing_it() -> None:
    found = encoder(name="resnet18", patch_size=None, width=None, depth=None, heads=None, image_size=72).train()
    before = {name: value.clone() for name, value in found.state_dict().items()}
    assert grid_of(found) == 3
    assert found.training
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())
    assert grid_of(encoder()) == 8


# What is refused


@pytest.mark.parametrize("config", [ContextEncoderConfig, DenoisingAutoencoderConfig])
@pytest.mark.parametrize("views", [{"count": 2}, {"local_count": 1, "local_size": 8}])
def test_views_of_more_than_one_crop_are_refused(config: Any, views: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="this method rebuilds one crop of an image"):
        config(views=views)


@pytest.mark.parametrize(("wrong", "said"), [({"share": 0.0}, "share"), ({"noise": "snow"}, "noise"), ({"sigma": -1.0}, "sigma")])
def test_noise_that_is_none_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DenoisingAutoencoderConfig(**wrong)
