"""Views: every change equal to torchvision's of the same parameters, drawn as the papers draw it, all of it from one generator."""

import math

import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from schemas.views import Views
from ssl_tasks.data import colours, views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.geometry import blurred, crop, random_boxes, resampling, resized, summed_rows, turned
from ssl_tasks.data.views import JITTER, MEAN_STD, augment

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


KEYS = ("top", "left", "height", "width")


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


def test_the_weights_of_a_pixel_sum_to_one_and_read_nothing_outside_the_box() -> None:
    pixel, weight = resampling(torch.tensor([3.0, 2.5]), torch.tensor([6.0, 7.25]), 16, 8)
    assert_allclose(weight.sum(-1), torch.ones(2, 8), atol=1e-6)
    assert set(pixel[0][weight[0] > 0].tolist()) == set(range(3, 9))
    assert set(pixel[1][weight[1] > 0].tolist()) == set(range(2, 10))


def test_a_weighted_sum_of_rows_is_a_product_with_the_dense_matrix() -> None:
    x, rows = torch.rand(2, 3, 5, 4, generator=seeded()), torch.tensor([[[0, 1], [4, 4]], [[2, 3], [1, 0]]], dtype=torch.int32)
    weights = torch.rand(2, 2, 2, generator=seeded(1))
    dense = torch.zeros(2, 2, 5).scatter_add_(2, rows.long(), weights)
    assert_allclose(summed_rows(x, rows, weights), torch.einsum("bts,bcsw->bctw", dense, x), atol=1e-6)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0), (0.05, 0.14), (0.32, 1.0)], ids=str)
def test_boxes_are_distributed_as_torchvisions(scale: tuple[float, float]) -> None:
    """Areas and ratios, alone and together, against 5,000 of its boxes in an image so large that their whole numbers hardly matter."""
    side, count, ratio = 2000, 5000, (3 / 4, 4 / 3)
    torch.manual_seed(0)
    image = torch.empty(1, side, side)
    torchvisions = v2.RandomResizedCrop(8, scale, ratio)
    boxes = [torchvisions.make_params([image]) for _ in range(count)]
    theirs = torch.tensor([[box[key] for key in KEYS] for box in boxes])
    top, left, height, width = theirs.float().T
    ours = dict(zip(("left", "top", "width", "height"), random_boxes(Draw(seeded(), count), side, scale, ratio), strict=True))
    for a, b in (
        (ours["width"] * ours["height"], width * height),
        (ours["width"] / ours["height"], width / height),
        (ours["width"], width),
        (ours["left"], left),
        (ours["top"], top),
    ):
        assert ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-3


def test_boxes_lie_inside_the_image() -> None:
    left, top, width, height = random_boxes(Draw(seeded(), 20_000), 20, (0.08, 1.0), (3 / 4, 4 / 3))
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 20 + 1e-4
    assert width.std() > 1
    assert_allclose((width * height).min() / 400, 0.08, atol=0.01)


@pytest.mark.parametrize(("ratio", "wanted"), [((3 / 4, 4 / 3), (20, 20)), ((2.0, 3.0), (20, 10)), ((0.25, 0.5), (10, 20))])
def test_where_no_box_fits_the_largest_of_the_nearest_ratio_is_taken(ratio: tuple[float, float], wanted: tuple[int, int]) -> None:
    _, _, width, height = random_boxes(Draw(seeded(), 100), 20, (1.0, 1.0), ratio)
    assert_allclose(torch.stack([width, height]), torch.tensor(wanted)[:, None].expand(2, 100), rtol=1e-5)


@pytest.mark.parametrize("size", [40, 60, 224])
def test_a_blur_equals_torchvisions_for_each_samples_own_sigma(size: int) -> None:
    pixels, sigma = torch.rand(3, 2, size, size, generator=seeded()), [0.4, 0.0, 1.3]
    ours, kernel = blurred(pixels.clone(), torch.tensor(sigma)), 2 * (size // 20) + 1
    assert torch.equal(ours[1], pixels[1])
    for i in (0, 2):
        assert_allclose(ours[i], reference.gaussian_blur(pixels[i], [kernel, kernel], [sigma[i], sigma[i]]), atol=1e-5)


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


@pytest.fixture
def vivid() -> Tensor:
    """Pixels over the whole range, among them greys and pure colours, so that every change has some to clamp."""
    x = torch.rand(4, 3, 8, 8, generator=seeded())
    x[0, :, 0] = x[0, :1, 0]
    x[1, 0, 0], x[1, 1, 0], x[1, 2, 0] = 1, 0, 0
    x[2, :, 0] = torch.eye(3).repeat(1, 3)[:, :8]
    x[3, :, 0], x[3, :, 1] = 0, 1
    return x


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("brightness", [0.2, 1.0, 1.3, 1.8]),
        ("contrast", [0.2, 1.0, 1.3, 1.8]),
        ("saturation", [0.0, 1.0, 0.4, 1.8]),
        ("hue", [-0.5, 0.0, 0.13, 0.4]),
    ],
)
def test_a_change_of_colour_equals_torchvisions_for_each_samples_own_factor(vivid: Tensor, name: str, factors: list[float]) -> None:
    ours = JITTER[name](vivid, torch.tensor(factors))
    for i, factor in enumerate(factors):  # torchvision's luma rounds 0.299 to 0.2989
        assert_allclose(ours[i], getattr(reference, f"adjust_{name}")(vivid[i], factor), atol=2e-4)


def test_a_whole_turn_of_the_hue_and_neutral_factors_change_nothing(vivid: Tensor) -> None:
    for name, factor in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.0), ("hue", 1.0)):
        assert_allclose(JITTER[name](vivid, torch.full((4,), factor)), vivid, atol=2e-6)


def test_grey_and_solarize_equal_torchvisions(vivid: Tensor) -> None:
    assert_allclose(colours.rgb_to_grayscale(vivid), reference.rgb_to_grayscale(vivid, num_output_channels=3), atol=2e-4)
    assert_allclose(colours.solarize(vivid), reference.solarize(vivid, 0.5), atol=1e-6)


def test_images_of_one_channel_know_brightness_and_contrast_as_torchvisions_do(vivid: Tensor) -> None:
    grey, factor = vivid[:, :1], torch.full((4,), 0.7)
    assert_allclose(colours.adjust_brightness(grey, factor), reference.adjust_brightness(grey, 0.7), atol=1e-6)
    assert_allclose(colours.adjust_contrast(grey, factor), reference.adjust_contrast(grey, 0.7), atol=1e-5)


def test_jitter_is_the_changes_in_the_order_drawn_with_factors_uniform_in_their_ranges() -> None:
    view = Views(jitter=1, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
    ranges = {"brightness": (0.6, 1.4), "contrast": (0.0, 2.5), "saturation": (0.8, 1.2), "hue": (-0.1, 0.1)}
    draw, orders = Draw(seeded(), 500), set()
    drawn: dict[str, list[Tensor]] = {name: [] for name in ranges}
    for _ in range(200):
        steps = views._jitter(view, 3, draw)
        orders.add(tuple(name for name, _ in steps))
        for name, factor in steps:
            drawn[name].append(factor)
    assert len(orders) == 24
    for name, (low, high) in ranges.items():
        factor = torch.cat(drawn[name])
        assert_allclose([factor.min(), factor.mean(), factor.max()], [low, (low + high) / 2, high], atol=0.01)
        assert_allclose(factor.std(), (high - low) / math.sqrt(12), rtol=0.01)


def test_a_view_is_crop_jitter_grey_blur_and_solarize_in_this_order() -> None:
    images = pictures(3, side=60)
    drawn = views._plan(Views(jitter=1, grey=1, blur=1, solarize=1, flip=0), 0, 60, 3, 40, Draw(seeded(), 3))
    assert drawn.sigma is not None
    (ours,) = augment(Views(count=1, jitter=1, grey=1, blur=1, solarize=1, flip=0), images, 40, Draw(seeded(), 3))
    x = crop(images / 255, *drawn.box, 40)
    for i in range(3):
        y = x[i]
        for name, factor in drawn.jitter:
            y = getattr(reference, f"adjust_{name}")(y, float(factor[i]))
        y = reference.gaussian_blur(reference.rgb_to_grayscale(y, num_output_channels=3), [5, 5], [float(drawn.sigma[i])] * 2)
        difference = (unnormalised(ours)[i] - reference.solarize(y, 0.5)).abs()
        assert (difference < 1e-3).float().mean() > 0.99  # a pixel within rounding of 0.5 may be inverted by one and not by the other


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


def test_blur_and_solarize_have_each_global_crops_own_probability_and_local_crops_have_theirs() -> None:
    view = Views(preset="byol", local_count=1, local_blur=0.6, local_solarize=0.4)
    drawn = [views._plan(view, i, 20, 3, 16, Draw(seeded(i), 20_000)) for i in range(3)]
    blurs = [float((plan.sigma > 0).float().mean()) for plan in drawn if plan.sigma is not None]
    assert_allclose(blurs, [1.0, 0.1, 0.6], atol=0.015)
    solarized = [0.0 if plan.solarize is None else float(plan.solarize.float().mean()) for plan in drawn]
    assert_allclose(solarized, [0.0, 0.2, 0.4], atol=0.015)


def test_sigmas_are_uniform_and_shrink_with_the_crop() -> None:
    for size in (224, 32):
        sigma = views._plan(Views(blur=1), 0, 32, 3, size, Draw(seeded(), 20_000)).sigma
        assert sigma is not None
        assert_allclose(torch.stack([sigma.min(), sigma.mean(), sigma.max()]) * 224 / size, [0.1, 1.05, 2.0], atol=0.02)


def test_noise_has_the_stated_standard_deviation() -> None:
    images = torch.full((50, 1, 16, 16), 128, dtype=torch.uint8)
    view = Views(**{**PLAIN.model_dump(), "noise": 0.1, "count": 1})
    assert_allclose(unnormalised(augment(view, images, 16, Draw(seeded(), len(images)))[0]).std(), 0.1, rtol=0.05)


# The whole


def test_global_crops_come_first_and_local_ones_are_smaller() -> None:
    view = Views(count=2, local_count=3, local_size=8)
    shapes = [tuple(v.shape) for v in changed(view, pictures(), 16)]
    assert shapes == [(4, 3, 16, 16)] * 2 + [(4, 3, 8, 8)] * 3


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
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
    assert MEAN_STD[4] == ([0.5] * 4, [0.25] * 4)


def test_ranks_make_together_the_views_that_one_process_makes() -> None:
    view, images = Views(preset="dino", local_count=2, rotation=10, noise=0.1), pictures(6)
    whole = augment(view, images, 16, Draw(seeded(), 6))
    shares = [augment(view, images[own], 16, Draw(seeded(), 6, own)) for own in (slice(0, 2), slice(2, 4), slice(4, 6))]
    for one, *parts in zip(whole, *shares, strict=True):
        assert_allclose(torch.cat(parts), one, atol=1e-5)


def test_working_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    view, images = Views(preset="dino", local_count=2, noise=0.1), pictures(7)
    whole = changed(view, images)
    monkeypatch.setattr(views, "PIECE", 2 * 3 * 20 * 20)
    for one, other in zip(whole, changed(view, images), strict=True):
        assert_allclose(one, other, atol=1e-6)


def test_resizing_is_antialiased_and_leaves_a_fitting_view_alone() -> None:
    view = torch.rand(2, 3, 16, 16, generator=seeded())
    assert resized(view, 16) is view
    assert_allclose(resized(view, 8), reference.resize(view, [8, 8], antialias=True), atol=1e-6)
    assert math.isclose(float(resized(view, 1).mean()), float(view.mean()), rel_tol=0.05)
