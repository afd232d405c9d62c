"""Views: geometry equal to torchvision's, colours that do what their names say, all of it from one generator."""

import math

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import LUMA, MEAN_STD, augment, crop, normalise, random_boxes, recoloured, resampling, resized, turned

PLAIN = Views(flip=0, jitter=0, grey=0, blur=0)
"""Crops alone."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 4, channels: int = 3, side: int = 20) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=seeded(1))


def changed(view: Views, images: Tensor, size: int = 16, seed: int = 0) -> list[Tensor]:
    return augment(view, images, size, Draw(seeded(seed), len(images)))


def unnormalised(view: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in MEAN_STD[view.shape[1]])
    return view * std + mean


# Geometry


@pytest.mark.parametrize("size", [8, 16, 33], ids=["smaller", "similar", "larger"])
def test_a_crop_equals_torchvisions_antialiased_resized_crop(size: int) -> None:
    pixels = torch.rand(5, 3, 24, 24, generator=seeded())
    left, top, width, height = [[0, 3, 7, 1, 12], [0, 5, 0, 9, 3], [24, 16, 9, 23, 5], [24, 12, 24, 7, 6]]
    ours = crop(pixels, *(torch.tensor(edge, dtype=torch.float32) for edge in (left, top, width, height)), size)
    for i, image in enumerate(pixels):
        theirs = reference.resized_crop(image, top[i], left[i], height[i], width[i], [size, size], antialias=True)
        assert_allclose(ours[i], theirs, atol=1e-5)


def test_a_flipped_crop_is_the_mirror_image_of_the_crop() -> None:
    pixels, box = torch.rand(2, 3, 12, 12, generator=seeded()), [torch.tensor([v, v]) for v in (1.5, 2.0, 7.0, 9.0)]
    plain, flipped = crop(pixels, *box, 8), crop(pixels, *box, 8, flip=torch.tensor([True, False]))
    assert torch.equal(flipped[0], plain[0].flip(-1))
    assert torch.equal(flipped[1], plain[1])


def test_rows_of_a_resampling_matrix_sum_to_one_and_read_nothing_outside_the_box() -> None:
    matrix = resampling(torch.tensor([3.0, 2.5]), torch.tensor([6.0, 7.25]), 16, 8)
    assert_allclose(matrix.sum(-1), torch.ones(2, 8), atol=1e-6)
    assert not matrix[0, :, :3].any()
    assert not matrix[0, :, 9:].any()
    assert not matrix[1, :, :2].any()
    assert not matrix[1, :, 10:].any()


def test_boxes_keep_to_their_shares_of_the_area_and_to_their_ratios() -> None:
    left, top, width, height = random_boxes(Draw(seeded(), 20_000), 20, (0.08, 1.0), (3 / 4, 4 / 3))
    share, ratio = width * height / 400, width / height
    assert_allclose([share.min(), share.max(), share.mean()], [0.08, 1.0, 0.54], atol=0.01)
    assert_allclose([ratio.min(), ratio.max()], [3 / 4, 4 / 3], atol=0.01)
    assert abs(ratio.log().mean()) < 0.01
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 20 + 1e-4


def test_a_box_of_the_whole_image_is_the_whole_image_whatever_the_ratio() -> None:
    _, _, width, height = random_boxes(Draw(seeded(), 100), 20, (1.0, 1.0), (3 / 4, 4 / 3))
    assert_allclose(width, torch.full((100,), 20.0), rtol=1e-5)
    assert_allclose(height, torch.full((100,), 20.0), rtol=1e-5)


def test_a_blurred_crop_equals_torchvisions_gaussian_blur_away_from_the_edge() -> None:
    pixels, whole = torch.rand(1, 3, 24, 24, generator=seeded()), [torch.tensor([v]) for v in (0.0, 0.0, 24.0, 24.0)]
    ours = crop(pixels, *whole, 24, sigma=torch.tensor([1.1]))
    theirs = reference.gaussian_blur(pixels, [15, 15], [1.1, 1.1])
    assert_allclose(ours[..., 8:-8, 8:-8], theirs[..., 8:-8, 8:-8], atol=1e-5)
    assert torch.equal(crop(pixels, *whole, 24, sigma=torch.tensor([0.0])), crop(pixels, *whole, 24))


def test_blur_shrinks_with_the_crop() -> None:
    sharpness = {}
    for size in (224, 32):
        images = pictures(8, 1, size)
        whole = Views(count=1, scale=(1, 1), flip=0, jitter=0, grey=0, blur=1)
        sharpness[size] = float(augment(whole, images, size, Draw(seeded(), len(images)))[0].std() / normalise(images / 255).std())
    assert sharpness[224] < 0.6
    assert sharpness[32] > 0.99


def test_a_rotation_equals_torchvisions_for_each_samples_own_angle() -> None:
    pixels, angles = torch.rand(3, 3, 16, 16, generator=seeded()), [0.0, 27.0, -90.0]
    ours = turned(pixels, torch.tensor(angles), torch.zeros(3))
    for i, angle in enumerate(angles):
        assert_allclose(ours[i], reference.rotate(pixels[i], angle, interpolation=reference.InterpolationMode.BILINEAR), atol=1e-4)


def test_a_shear_moves_rows_sideways_in_proportion_to_their_distance_from_the_middle() -> None:
    stripe = torch.zeros(2, 1, 21, 21)
    stripe[..., 10] = 1
    sheared = turned(stripe, torch.zeros(2), torch.tensor([0.25, -0.1]))[:, 0]
    middles = (sheared * torch.arange(21)).sum(2) / sheared.sum(2)
    assert_allclose(middles[0], 10 - 0.25 * (torch.arange(21) - 10), atol=1e-4)
    assert_allclose(middles[1], 10 + 0.1 * (torch.arange(21) - 10), atol=1e-4)


# Colours


def factors(value: float) -> Tensor:
    return torch.tensor([value, value])


@pytest.fixture
def mild() -> Tensor:
    """Pixels far enough from 0 and 1 that no factor used here clamps them."""
    return 0.3 + 0.3 * torch.rand(2, 3, 8, 8, generator=seeded())


def test_brightness_contrast_and_saturation_equal_torchvisions(mild: Tensor) -> None:
    one, zero = factors(1.0), factors(0.0)
    assert_allclose(recoloured(mild, factors(1.3), one, one, zero), reference.adjust_brightness(mild, 1.3), atol=1e-4)
    assert_allclose(recoloured(mild, one, factors(0.6), one, zero), reference.adjust_contrast(mild, 0.6), atol=1e-4)
    assert_allclose(recoloured(mild, one, one, factors(1.5), zero), reference.adjust_saturation(mild, 1.5), atol=1e-4)
    together = recoloured(mild, factors(1.3), factors(0.6), factors(1.5), zero)
    in_turn = reference.adjust_saturation(reference.adjust_contrast(reference.adjust_brightness(mild, 1.3), 0.6), 1.5)
    assert_allclose(together, in_turn, atol=3e-4)


def test_saturation_zero_is_grey_and_luma_stays(mild: Tensor) -> None:
    grey = recoloured(mild, factors(1.0), factors(1.0), factors(0.0), factors(0.3))
    assert_allclose(grey, reference.rgb_to_grayscale(mild, num_output_channels=3), atol=1e-4)


def test_a_turn_of_the_hue_keeps_luma_and_a_full_turn_changes_nothing(mild: Tensor) -> None:
    one, luma = factors(1.0), torch.tensor(LUMA).view(3, 1, 1)
    turned = recoloured(mild, one, one, one, factors(0.2))
    assert (turned - mild).abs().max() > 0.05
    assert_allclose((turned * luma).sum(1), (mild * luma).sum(1), atol=1e-5)
    assert_allclose(recoloured(mild, one, one, one, factors(1.0)), mild, atol=1e-5)


def test_one_channel_knows_brightness_and_contrast_as_colours_do(mild: Tensor) -> None:
    grey = mild[:, :1]
    ours = recoloured(grey, factors(1.2), factors(0.7))
    assert_allclose(ours, reference.adjust_contrast(reference.adjust_brightness(grey, 1.2), 0.7), atol=1e-5)


def test_every_sample_is_jittered_by_factors_of_its_own() -> None:
    images = pictures(1).repeat(32, 1, 1, 1)
    view = Views(count=1, scale=(1, 1), flip=0, jitter=1, grey=0, blur=0)
    views = augment(view, images, 20, Draw(seeded(), len(images)))[0]
    assert len({tuple(v.mean((1, 2)).tolist()) for v in views}) == 32


def test_probabilities_are_shares_of_the_samples() -> None:
    images = pictures(1, 3, 8).repeat(4000, 1, 1, 1)
    still = Views(count=1, scale=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0, blur=0)
    plain = augment(still, images, 8, Draw(seeded(), len(images)))[0]
    for name in ("flip", "jitter", "grey", "solarize"):
        view = augment(Views(**{**still.model_dump(), name: 0.3}), images, 8, Draw(seeded(), len(images)))[0]
        touched = ((view - plain).abs().amax((1, 2, 3)) > 1e-3).float().mean()
        assert_allclose(touched, 0.3, atol=0.03, err_msg=name)


def test_solarize_inverts_the_bright_half() -> None:
    images = pictures(2)
    view = Views(**{**PLAIN.model_dump(), "scale": (1, 1), "solarize": 1.0, "count": 1})
    assert_allclose(unnormalised(augment(view, images, 20, Draw(seeded(), len(images)))[0]), reference.solarize(images / 255, 0.5), atol=1e-5)


def test_noise_has_the_stated_standard_deviation() -> None:
    images = torch.full((50, 1, 16, 16), 128, dtype=torch.uint8)
    view = Views(**{**PLAIN.model_dump(), "noise": 0.1, "count": 1})
    assert_allclose(unnormalised(augment(view, images, 16, Draw(seeded(), len(images)))[0]).std(), 0.1, rtol=0.05)


# The whole


def test_global_crops_come_first_and_local_ones_are_smaller() -> None:
    view = Views(count=2, local_count=3, local_size=8)
    shapes = [tuple(v.shape) for v in changed(view, pictures(), 16)]
    assert shapes == [(4, 3, 16, 16)] * 2 + [(4, 3, 8, 8)] * 3


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_generator_gives_the_same_views_and_another_seed_gives_others(channels: int) -> None:
    view, images = Views(rotation=10, shear=0.1, noise=0.05, solarize=0.2), pictures(4, channels)
    first, again, other = changed(view, images), changed(view, images), changed(view, images, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in first)


def test_the_global_random_state_plays_no_part() -> None:
    torch.manual_seed(1)
    first, before = changed(Views(noise=0.1), pictures()), torch.get_rng_state()
    torch.manual_seed(2)
    second = changed(Views(noise=0.1), pictures())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.manual_seed(1)
    assert torch.equal(before, torch.get_rng_state())


def test_pixels_are_normalised_by_their_channels() -> None:
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    view = augment(PLAIN, white, 8, Draw(seeded(), len(white)))[0]
    assert_allclose(view[0, :, 0, 0], [(1 - m) / s for m, s in zip(*MEAN_STD[3], strict=True)], rtol=1e-5)


def test_resizing_is_antialiased_and_leaves_a_fitting_view_alone() -> None:
    view = torch.rand(2, 3, 16, 16, generator=seeded())
    assert resized(view, 16) is view
    assert_allclose(resized(view, 8), reference.resize(view, [8, 8], antialias=True), atol=1e-6)
    assert math.isclose(float(resized(view, 1).mean()), float(view.mean()), rel_tol=0.05)
