"""Lab against its formulas, bins against the gamut, losses over bins against the paper's, and encoders that see lightness alone."""

import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.data.lab import annealed_mean, at_places, bins, grey, halves, lab, nearest_bins, rgb
from ssl_tasks.data.views import normalise, pixels
from ssl_tasks.losses.colour import rebalancing, soft_cross_entropy, spread
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.lightness import without_colours

Numbers = NDArray[np.float64]
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
D65 = np.array([0.95047, 1.0, 1.08883])
ENCODERS: dict[str, dict[str, Any]] = {
    "vit": {"name": "vit_tiny_patch16_224", "image_size": 16, "patch_size": 4, "width": 32, "depth": 1, "heads": 2},
    "rotary": {"name": "vit_small_patch16_dinov3", "image_size": 16, "patch_size": 4, "width": 32, "depth": 1, "heads": 2},
    "resnet": {"name": "resnet18", "image_size": 32, "stem": "cifar"},
    "deep stem": {"name": "resnet18d", "image_size": 32},
    "convnext": {"name": "convnextv2_atto", "image_size": 16, "options": {"patch_size": 1, "depths": [1, 1, 1, 1], "dims": [8, 8, 8, 16]}},
    "swin": {
        "name": "swin_tiny_patch4_window7_224",
        "image_size": 16,
        "options": {"patch_size": 2, "window_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2]},
    },
}


def cielab(colours: Numbers) -> Numbers:
    """L, a and b of sRGB colours (n, 3): https://www.w3.org/Graphics/Color/sRGB and CIE 15, by its exact fractions."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    t = linear @ TO_XYZ.T / D65
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def colours(count: int, seed: int = 0) -> Tensor:
    """Images (1, 3, count, 1) of random colours, many of them dark."""
    return torch.from_numpy(np.random.default_rng(seed).random((count, 3)) ** 2).T.reshape(1, 3, count, 1)


def squares(ab: Numbers) -> set[tuple[int, int]]:
    """Centres of the squares of side 10 that these (n, 2) lie in."""
    numbers = np.rint(ab / 10).astype(int) + 50
    return {(int(code) // 100 * 10 - 500, int(code) % 100 * 10 - 500) for code in np.unique(numbers[:, 0] * 100 + numbers[:, 1])}


def centres() -> set[tuple[int, int]]:
    return {(a, b) for a, b in bins(10).int().tolist()}


def rows(images: Tensor) -> Numbers:
    return images.double()[0, :, :, 0].T.numpy()


# Lab


def test_lab_is_that_of_the_formulas() -> None:
    assert_allclose(rows(lab(colours(5000))), cielab(rows(colours(5000))), atol=5e-3)  # their white point is rounded to five digits
    assert_allclose(rows(lab(colours(5000).float())), rows(lab(colours(5000))), atol=5e-4)


def test_white_is_100_and_greys_have_no_colour() -> None:
    shades = torch.linspace(0, 1, 256).expand(1, 3, -1)[..., None]
    seen = rows(lab(shades))
    assert_allclose(seen[-1], [100, 0, 0], atol=1e-4)
    assert_allclose(seen[0], [0, 0, 0], atol=1e-4)
    assert_allclose(seen[:, 1:], 0, atol=1e-4)
    assert (np.diff(seen[:, 0]) > 0).all()


@pytest.mark.parametrize(
    ("colour", "expected"),  # http://www.brucelindbloom.com: sRGB, D65
    [((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)), ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)), ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86))],
)
def test_primaries_are_where_they_are_known_to_be(colour: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert_allclose(rows(lab(torch.tensor(colour).view(1, 3, 1, 1)))[0], expected, atol=0.02)


def test_rgb_undoes_lab_and_keeps_within_what_can_be_shown() -> None:
    assert_allclose(rows(rgb(lab(colours(5000)))), rows(colours(5000)), atol=1e-6)
    beyond = rgb(torch.tensor([50.0, 127.0, -127.0]).view(1, 3, 1, 1))
    assert 0 <= beyond.min() <= beyond.max() <= 1


def test_grey_is_as_light_and_has_no_colour() -> None:
    seen, before = rows(lab(grey(colours(2000)))), rows(lab(colours(2000)))
    assert_allclose(seen[:, 0], before[:, 0], atol=1e-6)
    assert_allclose(seen[:, 1:], 0, atol=1e-6)


def test_pixels_undo_normalise() -> None:
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(pixels(normalise(images)), images)


def test_no_half_tells_anything_of_the_other() -> None:
    """Changing one half's own channels changes it alone."""
    seen = torch.tensor([[40.0, 60.0, 50.0, 50.0], [8.0, 8.0, -9.0, 8.0], [5.0, 5.0, 5.0, -7.0]]).double().view(1, 3, 4, 1)
    assert_allclose(rows(lab(rgb(seen))), rows(seen), atol=1e-4)  # all can be shown
    lightness, colour = map(rows, halves(normalise(rgb(seen))))
    assert_allclose(colour[0], colour[1], atol=1e-5)
    assert_allclose(lightness[2], lightness[3], atol=1e-5)
    assert abs(lightness[0] - lightness[1]).min() > 0.1
    assert abs(colour[2] - colour[3]).max() > 0.1
    assert_allclose(rows(lab(pixels(halves(normalise(rgb(seen)))[1])))[:, 0], 50, atol=1e-4)


def test_places_are_means_row_by_row() -> None:
    maps = torch.arange(32.0).view(1, 2, 4, 4)
    assert at_places(maps, 2).tolist() == [[[2.5, 18.5], [4.5, 20.5], [10.5, 26.5], [12.5, 28.5]]]


# Bins


def test_every_colour_falls_in_a_bin_and_every_bin_holds_one() -> None:
    """Colours at random for the inside, and every face of the cube of RGB in steps of one 255th."""
    found = squares(cielab(np.random.default_rng(0).random((200_000, 3)))[:, 1:])
    assert found <= centres()
    one, other = (axis.ravel() for axis in np.meshgrid(np.arange(256) / 255, np.arange(256) / 255))
    for axis, end in np.ndindex(3, 2):
        found |= squares(cielab(np.insert(np.stack([one, other], axis=1), axis, end, axis=1))[:, 1:])
    assert found == centres()


def test_there_are_261_bins_of_side_10_with_229_centres_that_can_be_shown() -> None:
    """By the way back, from Lab to RGB: a centre can be shown if some lightness makes a colour of sRGB with it."""
    assert bins(10).shape == (261, 2)
    plane = np.stack(np.meshgrid(np.arange(-120, 121, 10), np.arange(-120, 121, 10)), axis=-1).reshape(-1, 1, 2)
    y = (np.arange(0, 100.05, 0.1)[None] + 16) / 116
    f = np.stack([y + plane[..., 0] / 500, y + 0 * plane[..., 0], y - plane[..., 1] / 200], axis=-1)
    linear = np.where(f > 6 / 29, f**3, (116 * f - 16) * 27 / 24389) * D65 @ np.linalg.inv(TO_XYZ).T
    shown = plane[((linear > -1e-6) & (linear < 1 + 1e-6)).all(axis=2).any(axis=1), 0]
    assert len(shown) == 229
    assert {(a, b) for a, b in shown.tolist()} <= centres()


@pytest.mark.slow
def test_the_bins_are_those_of_all_16_million_colours() -> None:
    found: set[tuple[int, int]] = set()
    one, other = (axis.ravel() for axis in np.meshgrid(np.arange(256) / 255, np.arange(256) / 255))
    for red in np.arange(256) / 255:
        found |= squares(cielab(np.stack([np.full_like(one, red), one, other], axis=1))[:, 1:])
    assert found == centres()


def test_a_colour_is_shared_among_its_five_nearest_bins_by_a_gaussian() -> None:
    ab, middles = np.random.default_rng(0).uniform(-60, 60, (2, 40, 2)), bins(10).double()
    found, shares = nearest_bins(torch.from_numpy(ab), middles, 5, 5.0)
    distances = np.linalg.norm(ab[..., None, :] - middles.numpy(), axis=-1)
    nearest = distances.argsort(axis=-1)[..., :5]
    weights = np.exp(-(np.take_along_axis(distances, nearest, -1) ** 2) / (2 * 5.0**2))
    assert np.array_equal(found.numpy(), nearest)
    assert_allclose(shares.numpy(), weights / weights.sum(-1, keepdims=True), rtol=1e-9)


def test_the_annealed_mean_lies_between_mean_and_mode() -> None:
    logits, middles = torch.randn(7, 261, generator=torch.Generator().manual_seed(0)).double(), bins(10).double()
    told = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    sharp = np.exp(np.log(told) / 0.38)  # equation 5
    assert_allclose(annealed_mean(logits, middles, 0.38), sharp / sharp.sum(1, keepdims=True) @ middles.numpy(), rtol=1e-9)
    assert_allclose(annealed_mean(logits, middles, 1.0), told @ middles.numpy(), rtol=1e-9)
    assert_allclose(annealed_mean(logits, middles, 1e-4), middles[logits.argmax(1)], atol=1e-6)


# Losses


def test_the_loss_is_the_papers_over_places() -> None:
    rng = np.random.default_rng(0)
    logits, weights, shares = rng.normal(size=(6, 9)), rng.uniform(0.5, 2, 9), rng.dirichlet(np.ones(5), 6)
    found = np.stack([rng.permutation(9)[:5] for _ in range(6)])
    total = 0.0
    for place in range(6):
        told = np.exp(logits[place]) / np.exp(logits[place]).sum()
        z = np.zeros(9)
        z[found[place]] = shares[place]
        total -= weights[found[place, 0]] * float((z * np.log(told)).sum())
    loss = soft_cross_entropy(*map(torch.from_numpy, (logits, found, shares, weights)))
    assert_allclose(loss, total / 6, rtol=1e-12)


@pytest.mark.parametrize(("count", "chance"), [(313, 5.74620319), (261, math.log(261)), (100, 4.60517019)])
def test_who_knows_nothing_has_the_loss_of_chance(count: int, chance: float) -> None:
    found = torch.randint(0, count, (8, 5), generator=torch.Generator().manual_seed(0))
    shares = torch.full((8, 5), 0.2).double()
    assert_allclose(soft_cross_entropy(torch.zeros(8, count).double(), found, shares, torch.ones(count).double()), chance, atol=1e-8)


def test_rare_colours_weigh_more_and_the_mean_weight_is_one() -> None:
    middles, rng = bins(10).double(), np.random.default_rng(0)
    frequencies = rng.dirichlet(np.full(261, 0.05))
    smoothing = spread(middles, 5.0)
    weights = rebalancing(torch.from_numpy(frequencies), smoothing, 0.5).numpy()
    gaussian = np.exp(-np.square(middles.numpy()[:, None] - middles.numpy()).sum(-1) / 50)
    smooth = gaussian / gaussian.sum(0) @ frequencies
    expected = 1 / (0.5 * smooth + 0.5 / 261)
    assert_allclose(weights, expected / (smooth * expected).sum(), rtol=1e-9)
    assert_allclose((smooth * weights).sum(), 1, rtol=1e-9)
    assert_allclose(smooth.sum(), 1, rtol=1e-9)
    assert np.array_equal(weights.argsort(), (-smooth).argsort())
    assert_allclose(rebalancing(torch.from_numpy(frequencies), smoothing, 1.0), np.ones(261), rtol=1e-9)


# Encoders of lightness


def make(sees: str = "lightness", **encoder: Any) -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(Encoder(**encoder, sees=sees)).eval()


def images(side: int) -> Tensor:
    return normalise(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_an_encoder_of_lightness_sees_no_colours_whichever_way_images_come_in(encoder: dict[str, Any]) -> None:
    blind, seeing = make(**encoder), make("colours", **encoder)
    assert list(blind.state_dict()) == list(seeing.state_dict())
    coloured = images(encoder["image_size"])
    light = normalise(grey(pixels(coloured)))
    for look in (lambda e, x: e(x), lambda e, x: e.tokens(x).patches, lambda e, x: e.multi_crop([x])[0].pooled):
        torch.testing.assert_close(look(blind, coloured), look(seeing, light))
        assert not torch.allclose(look(seeing, coloured), look(seeing, light), atol=1e-3)
    if blind.is_vit:
        kept = torch.tensor([[0, 5], [3, 2]])
        torch.testing.assert_close(blind.visible(coloured, kept), seeing.visible(light, kept))


def test_it_stays_so_when_it_is_copied_or_made_again() -> None:
    seeing = make("colours", **ENCODERS["vit"])
    seeing.see_lightness()
    seeing.see_lightness()
    assert seeing.config.sees == "lightness"
    again = TimmEncoder(seeing.config).eval()
    again.load_state_dict(seeing.state_dict())
    for other in (again, deepcopy(seeing)):
        assert torch.equal(other(images(16)), seeing(images(16)))
        assert torch.allclose(other(images(16)), other(normalise(grey(pixels(images(16))))), atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_what_is_traced_for_export_sees_lightness_too(name: str) -> None:
    encoder = make(**ENCODERS[name])
    program: Any = torch.export.export(encoder, (images(16),)).module()
    torch.testing.assert_close(program(images(16)), encoder(images(16)))
    torch.testing.assert_close(program(normalise(grey(pixels(images(16))))), encoder(images(16)), rtol=1e-4, atol=1e-4)


def test_lightness_is_seen_in_half_precision_too() -> None:
    encoder = make(**ENCODERS["convnext"])
    exact = encoder(images(16))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(encoder(images(16)).float(), exact, atol=0.1)
    assert encoder.bfloat16()(images(16).bfloat16()).dtype == torch.bfloat16


def test_grey_images_have_no_colours_to_lose() -> None:
    with pytest.raises(ValidationError, match="sees lightness is for RGB images, and channels 1 reads others"):
        Encoder(name="resnet18", channels=1, sees="lightness")


def test_a_model_without_a_convolution_for_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"^encoder.sees lightness: 'mine' has no convolution that RGB images come into"):
        without_colours(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), "mine")
