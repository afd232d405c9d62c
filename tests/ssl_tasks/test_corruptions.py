"""Corruptions: each against its formula by hand where it has one, how severities rise, and what hangs on seed and image alone."""

import io
import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from schemas.protocols.robustness import Corruption
from ssl_tasks.data import corruptions
from ssl_tasks.data.corruptions import KINDS, corrupted

SIDES = 32, 96
UNORDERED = {
    32: {"glass_blur", "motion_blur", "frost", "elastic", "pixelate"},  # CIFAR-10-C
    96: {"glass_blur", "frost", "fog", "elastic"},  # ImageNet-C
}
"""Kinds whose published strengths trade one change for another, so that pixels do not always lie further off: blur takes grain away again."""


def pictures(side: int, count: int = 12) -> Tensor:
    """Smooth colours with edges and grain, as photographs have."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    edges = (smooth.mean(1, keepdim=True) > 0.5).float() * 0.3
    grain = 0.03 * torch.randn(count, 3, side, side, generator=generator)
    return ((smooth * 0.6 + edges + 0.05 + grain).clamp(0, 1) * 255).round().to(torch.uint8)


def distance(images: Tensor, kind: str, severity: int) -> float:
    """Root mean squared distance to the clean images, of pixels in [0, 1]."""
    changed = corrupted(images, kind, severity, range(len(images)))
    return float(((changed.double() - images.double()) / 255).square().mean().sqrt())


def test_there_is_a_corruption_for_every_name_that_yaml_may_state() -> None:
    assert set(KINDS) == set(get_args(Corruption))
    assert all(len(kind.large) == len(kind.small) == 5 for kind in KINDS.values())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_images_lie_further_off_with_each_severity(kind: str, side: int) -> None:
    images = pictures(side)
    distances = [distance(images, kind, severity) for severity in range(1, 6)]
    assert min(distances) > 0.001
    if kind not in UNORDERED[side]:
        assert all(weaker < stronger for weaker, stronger in pairwise(distances)), distances
    elif kind != "elastic":
        assert distances[4] > distances[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 12), (4, 40), (3, 70)])
def test_any_size_and_number_of_channels_comes_out_as_it_went_in(kind: str, channels: int, side: int) -> None:
    images = torch.randint(0, 256, (2, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    changed = corrupted(images, kind, 5, [0, 1])
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_corrupted_the_same_way_wherever_it_stands(kind: str) -> None:
    images = pictures(32, 4)
    together = corrupted(images, kind, 3, [10, 11, 12, 13], seed=5)
    alone = corrupted(images[2:3], kind, 3, [12], seed=5)
    assert int((together[2].int() - alone[0].int()).abs().max()) <= 1  # sums of a batch may be in another order


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg"}))
def test_another_seed_or_another_image_draws_other_numbers(kind: str) -> None:
    images = pictures(32, 1)
    first, image, seed = (corrupted(images, kind, 5, [key], seed) for key, seed in ((1, 0), (2, 0), (1, 1)))
    assert not torch.equal(first, image)
    assert not torch.equal(first, seed)


def grey(value: float, side: int = 64) -> Tensor:
    return torch.full((1, 3, side, side), round(255 * value), dtype=torch.uint8)


@pytest.mark.parametrize(("side", "deviation"), [(64, 0.10), (160, 0.38)])
def test_gaussian_noise_has_the_published_deviation(side: int, deviation: float) -> None:
    """Read off where clipping does not reach: the share of pixels within half a deviation."""
    changed = corrupted(grey(0.5, side), "gaussian_noise", 5, [0]).double() / 255
    near = ((changed - 128 / 255).abs() < deviation / 2).double().mean().item()
    assert near == pytest.approx(math.erf(0.5 / math.sqrt(2)), abs=0.02)


def test_shot_noise_is_that_of_so_many_photons() -> None:
    changed = corrupted(grey(0.4), "shot_noise", 5, [0]).double() / 255
    assert changed.mean().item() == pytest.approx(0.4, abs=0.003)
    assert changed.var().item() == pytest.approx(0.4 / 50, rel=0.05)


def test_impulse_noise_hits_the_published_share_half_of_it_white() -> None:
    changed = corrupted(grey(0.5), "impulse_noise", 5, [0])
    assert (changed == 255).double().mean().item() == pytest.approx(0.035, abs=0.006)
    assert (changed == 0).double().mean().item() == pytest.approx(0.035, abs=0.006)


def test_brightness_adds_to_the_value_and_keeps_hue_and_saturation() -> None:
    import colorsys

    images = pictures(32, 1)
    changed = corrupted(images, "brightness", 2, [0])
    for y, x in ((0, 0), (7, 20), (31, 5)):
        before, after = (colorsys.rgb_to_hsv(*(picture[0, :, y, x] / 255).tolist()) for picture in (images, changed))
        wanted = (before[0], before[1], min(before[2] + 0.1, 1))
        assert colorsys.hsv_to_rgb(*wanted) == pytest.approx((changed[0, :, y, x] / 255).tolist(), abs=0.5 / 255 + 1e-6)
        assert after[2] == pytest.approx(wanted[2], abs=0.51 / 255)
    assert corrupted(grey(0.0), "brightness", 2, [0]).unique().tolist() == [26]


def test_contrast_draws_pixels_to_the_mean_of_their_channel() -> None:
    images = pictures(32, 1).double() / 255
    wanted = (images - images.mean((2, 3), keepdim=True)) * 0.15 + images.mean((2, 3), keepdim=True)
    changed = corrupted((images * 255).round().to(torch.uint8), "contrast", 5, [0]).double() / 255
    assert float((changed - wanted).abs().max()) < 0.51 / 255


def test_jpeg_and_pixelate_are_what_pillow_makes() -> None:
    images = pictures(32, 1)
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=40)
    assert np.array_equal(corrupted(images, "jpeg", 5, [0])[0].permute(1, 2, 0).numpy(), np.array(Image.open(buffer)))
    small = picture.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    assert np.array_equal(corrupted(images, "pixelate", 5, [0])[0].permute(1, 2, 0).numpy(), np.array(small))


@pytest.mark.parametrize("kind", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic"])
def test_what_moves_pixels_leaves_an_even_image_even(kind: str) -> None:
    assert corrupted(grey(0.3), kind, 4, [0]).unique().tolist() == [76]


def test_a_blur_is_a_gaussian_with_edges_that_go_on() -> None:
    from scipy.ndimage import gaussian_filter

    image = pictures(32, 1).double() / 255
    wanted = gaussian_filter(image[0].numpy(), (0, 1.5, 1.5), mode="nearest", truncate=4)
    assert corruptions._blurred(image.float(), 1.5)[0].numpy() == pytest.approx(wanted, abs=1e-6)


def test_defocus_is_the_sum_over_the_disc_with_mirrored_edges() -> None:
    from scipy.ndimage import convolve

    image = pictures(72, 1).float() / 255
    axis = np.arange(-4, 5)
    disc = (4 + 0.5 - np.hypot(axis[:, None], axis[None])).clip(0, 1)
    dice = corruptions.Dice([0], 0, 0, 1.0, image.device)
    found = corruptions.defocus_blur(image, dice, 4, 0.01)[0]
    wanted = np.stack([convolve(plane.astype(np.float64), disc / disc.sum(), mode="mirror") for plane in image[0].numpy()])
    assert found.numpy() == pytest.approx(wanted, abs=1e-6)


def test_defocus_spreads_a_point_over_its_disc() -> None:
    point = torch.zeros(1, 1, 224, 224)
    point[0, 0, 112, 112] = 1
    spread = corruptions.defocus_blur(point, corruptions.Dice([0], 0, 0, 1.0, point.device), 10, 0.5)[0, 0]
    axis = torch.arange(224.0) - 112
    away = torch.hypot(axis[:, None], axis[None])
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    assert spread[away > 13].abs().max().item() < 1e-7
    assert spread[away < 8].std().item() < 1e-6
    assert spread[112, 112].item() == pytest.approx(1 / (math.pi * 10**2), rel=0.03)


def test_motion_spreads_a_point_along_a_line_to_one_side() -> None:
    point = torch.zeros(1, 1, 64, 64)
    point[0, 0, 32, 32] = 1
    streak = corruptions._streaked(point, 10, 3, torch.tensor([0.0]))[0, 0]
    weights = np.exp(-0.5 * (np.arange(21) / 3) ** 2)
    assert streak[32, 12:33].flip(0).numpy() == pytest.approx(weights / weights.sum(), abs=1e-6)
    assert streak.sum().item() == pytest.approx(1, abs=1e-5)


def test_elastic_shifts_follow_the_published_strength() -> None:
    """Of a ramp: the pixel's value is its place, so that differences are shifts, on average none."""
    ramp = torch.arange(200.0).expand(1, 1, 200, 200) / 200
    dice = corruptions.Dice([3], 0, 0, 1.0, ramp.device)
    shifts = 200 * (corruptions.elastic(ramp, dice, 0.12, 0.01, 0.0) - ramp)[0, 0, 20:-20, 20:-20]
    expected = 0.12 * 200 * math.sqrt(1 / 3) / (2 * math.sqrt(math.pi) * 0.01 * 200)  # of white noise after a Gaussian blur
    assert shifts.std().item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("kind", ["frost", "snow"])
def test_frost_and_snow_brighten_dark_images(kind: str) -> None:
    assert corrupted(grey(0.1, 96), kind, 5, [0]).double().mean() > 60


def test_fog_keeps_the_brightest_value_as_the_limit_and_veils_the_rest() -> None:
    images = pictures(96, 1)
    foggy = corrupted(images, "fog", 5, [0])
    assert foggy.max() <= images.max()
    assert foggy.double().std() < images.double().std()
