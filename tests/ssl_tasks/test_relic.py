"""ReLIC and ReLICv2: a divergence that is not contrast once more, who sees what, and the background that is taken away."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, random, softmax, two, unit
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import COLOURED, ENCODERS
from torch import Tensor

from schemas import methods as configs
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.saliency import foreground
from ssl_tasks.losses.invariance import beliefs, contrast, invariance
from ssl_tasks.methods import build
from ssl_tasks.methods.contrastive.relic_v2 import without_background
from ssl_tasks.nn.encoder import TimmEncoder

TAU, BETA = 0.2, 0.7
SMALL: dict[str, Any] = {"hidden": 128, "output": 8, "temperature": TAU, "invariance": BETA}
MULTI = Views(count=4, local_count=2, local_size=8)


def p_by_formula(z: Tensor, targets: Tensor) -> Matrix:
    return softmax(unit(z) @ unit(targets).T / TAU)


def kl(p: Matrix, q: Matrix) -> float:
    return float((p * np.log(p / q)).sum(axis=1).mean())


def nll(p: Matrix) -> float:
    return float(-np.log(np.diagonal(p)).mean())


def gradient(loss: Tensor, z: Tensor) -> Tensor:
    return torch.autograd.grad(loss, z)[0]


def made(config: Any, encoder: str = "vit") -> Any:
    torch.manual_seed(0)
    return build(config, TimmEncoder(ENCODERS[encoder])).double().train()


def crops(count: int, side: int = 16, images: int = 5) -> list[Tensor]:
    return list(random(count, images, 1, side, side))


# The terms


def test_contrast_is_info_nce_over_all_targets() -> None:
    z, t = two(5, 7)
    assert_allclose(contrast(beliefs(z, t, TAU)), nll(p_by_formula(z, t)), rtol=1e-12)


def test_rows_of_a_second_process_find_their_targets_behind_those_of_the_first() -> None:
    z, t = two(6, 7)
    assert_allclose(contrast(beliefs(z[4:], t, TAU), offset=4), -np.log(np.diagonal(p_by_formula(z, t))[4:]).mean(), rtol=1e-12)


@pytest.mark.parametrize("images", [4, 8, 100])
def test_embeddings_that_are_all_one_point_give_the_loss_of_chance_and_no_divergence(images: int) -> None:
    p = beliefs(torch.ones(images, 3).double(), torch.ones(images, 3).double(), TAU)
    assert_allclose(contrast(p), math.log(images), rtol=1e-12)
    assert_allclose(invariance(p, p), 0, atol=1e-12)


def test_a_contrast_worked_out_by_hand() -> None:
    """Similarities .9, .3, .1 and -.2 over .1: e^9 of 8126."""
    similarities = torch.tensor([[0.9, 0.3, 0.1, -0.2]], dtype=torch.float64)
    across = (1 - similarities.T.square()).sqrt()
    targets = torch.cat([similarities.T, across], dim=1)
    assert_allclose(contrast(beliefs(torch.tensor([[1.0, 0.0]]).double(), targets, 0.1)), 0.00282692, atol=1e-8)


def test_the_divergence_is_that_of_whole_distributions_from_query_to_reference() -> None:
    (z, t), (z_prime, t_prime) = two(5, 7), two(5, 9)
    p, reference = p_by_formula(z, t), p_by_formula(z_prime, t_prime)
    ours = invariance(beliefs(z, t, TAU), beliefs(z_prime, t_prime, TAU))
    assert_allclose(ours, kl(p, reference), rtol=1e-10)
    assert abs(kl(p, reference) - kl(reference, p)) > 0.01 * kl(p, reference), "the direction shows in these numbers"


def test_the_divergence_is_not_contrast_once_more() -> None:
    """That of the positive's entry alone is: its gradient is that of the contrast to the last digit, and its value may be negative."""
    z, t = two(5, 7)
    z.requires_grad_()
    p, reference = beliefs(z, t, TAU), beliefs(random(5, 8)[:, :7], t, TAU)
    vacuous = (reference.detach().diagonal() - p.diagonal()).mean()
    contrasts = gradient(contrast(beliefs(z, t, TAU)), z)
    assert_allclose(gradient(vacuous, z), contrasts, atol=1e-14)
    ours = gradient(invariance(beliefs(z, t, TAU), reference), z)
    cosine = torch.cosine_similarity(ours.flatten(), contrasts.flatten(), dim=0)
    assert abs(float(cosine)) < 0.9
    assert invariance(p, reference).item() > 0


def test_the_divergence_moves_the_query_to_the_reference_and_not_the_reference() -> None:
    z, other = two(5, 7)
    z.requires_grad_()
    other.requires_grad_()
    t = random(5, 8)[:, :7]
    loss = invariance(beliefs(z, t, TAU), beliefs(other, t, TAU))
    loss.backward()  # type: ignore[no-untyped-call]  # of torch
    assert other.grad is None
    assert z.grad is not None
    nearer = (z - 0.05 * z.grad).detach()
    assert invariance(beliefs(nearer, t, TAU), beliefs(other, t, TAU)) < loss


# The methods


def test_relic_is_both_directions_of_both_terms() -> None:
    method = made(configs.ReLIC(**SMALL))
    views = crops(2)
    z, z_prime = method.head(method.encoder(torch.cat(views))).chunk(2)
    t, t_prime = method.target_head(method.target_encoder(torch.cat(views))).chunk(2)
    p, p_prime = p_by_formula(z, t_prime), p_by_formula(z_prime, t)
    terms = method(views, 0.5)
    assert_allclose(terms["info_nce"].detach(), (nll(p) + nll(p_prime)) / 2, rtol=1e-8)
    assert_allclose(terms["invariance"].detach(), BETA * (kl(p, p_prime) + kl(p_prime, p)) / 2, rtol=1e-8)


def test_relic_v2_is_the_mean_of_24_pairs_of_a_large_crop_and_any_crop() -> None:
    method = made(configs.ReLICv2(**SMALL, views=MULTI))
    large, small = crops(4), crops(2, side=8)
    pooled = [features.pooled for features in method.encoder.multi_crop([torch.cat(large), torch.cat(small)])]
    z, t = method.head(torch.cat(pooled)).chunk(6), method.target_head(method.target_encoder(torch.cat(large))).chunk(4)
    contrasts, divergences = [], []
    for anchor in range(4):
        reference = p_by_formula(z[anchor], t[anchor])
        contrasts += [nll(p_by_formula(crop, t[anchor])) for crop in z]
        divergences += [kl(p_by_formula(crop, t[anchor]), reference) for crop in z]
    assert len(contrasts) == 24
    assert divergences.count(0.0) == 4, "a crop does not diverge from itself"
    terms = method([*large, *small, torch.zeros(5, 4, dtype=torch.bool)], 0.5)
    assert_allclose(terms["info_nce"].detach(), np.mean(contrasts), rtol=1e-8)
    assert_allclose(terms["invariance"].detach(), BETA * np.mean(divergences), rtol=1e-8)


@pytest.mark.parametrize("name", ["vit", "convnet"])
def test_the_target_sees_large_crops_alone(name: str) -> None:
    method = made(configs.ReLICv2(**SMALL, views=MULTI), name)
    seen: list[tuple[int, ...]] = []
    method.target_encoder.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    method([*crops(4), *crops(2, side=8), torch.zeros(5, 4, dtype=torch.bool)], 0.5)
    assert seen == [(4 * 5, 1, 16, 16)]


@pytest.mark.parametrize("config", [configs.ReLIC(**SMALL), configs.ReLICv2(**SMALL)], ids=["v1", "v2"])
def test_no_gradient_reaches_the_target_which_follows_ever_slower(config: Any) -> None:
    method = made(config)
    images = torch.randint(0, 256, (5, 1, 18, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = [view.double() if view.is_floating_point() else view for view in method.views(images, Draw(torch.Generator().manual_seed(0), 5))]
    sum(method(views, 0.5).values()).backward()
    assert all(p.grad is None for part in (method.target_encoder, method.target_head) for p in part.parameters())
    last, target = method.head[-1].weight, method.target_head.network[-1].weight
    for progress, momentum in ((0.0, 0.996), (0.5, 0.998), (1.0, 1.0)):
        with torch.no_grad():
            last.add_(1.0)
        expected = momentum * target + (1 - momentum) * last
        method.after_step(progress)
        assert_allclose(target, expected.detach(), rtol=1e-12)


def test_the_head_narrows_as_the_papers() -> None:
    method = build(configs.ReLIC(), TimmEncoder(ENCODERS["vit"]))
    linear = [layer.out_features for layer in method.head if isinstance(layer, torch.nn.Linear)]  # type: ignore[union-attr]
    assert linear == [4096, 2048, 1024, 512, 128]


# The background


def scene(channels: int = 3) -> tuple[Tensor, Tensor]:
    """A field of noise with a block of another colour, and which pixels are the block's."""
    image, block = 0.05 * random(1, channels, 32, 32), torch.zeros(32, 32, dtype=torch.bool)
    block[10:22, 8:18] = True
    image[:, :, block] += torch.linspace(1.0, 1.5, channels, dtype=torch.float64).view(1, -1, 1)
    return image, block


@pytest.mark.parametrize("channels", [1, 3])
def test_what_stands_out_by_its_colour_is_kept_and_the_field_around_it_is_not(channels: int) -> None:
    image, block = scene(channels)
    kept = foreground(image)[0, 0]
    assert kept[12:20, 10:16].all(), "the middle of the block, whose edge is blurred"
    away = torch.ones_like(block)
    away[8:24, 6:20] = False
    assert not kept[away].any()


def test_brightness_and_contrast_do_not_change_what_stands_out() -> None:
    image, _ = scene()
    assert torch.equal(foreground(2 * image + 3), foreground(image))
    assert torch.equal(foreground(-image), foreground(image))


@pytest.mark.parametrize("level", [0.0, 0.3, -2.1])
def test_of_a_plain_image_nothing_is_taken(level: float) -> None:
    assert foreground(torch.full((2, 3, 16, 16), level)).all()


def test_only_chosen_crops_lose_their_background_and_keep_the_rest_as_it_was() -> None:
    crop = torch.cat([scene()[0], scene()[0]])
    masked = without_background(crop, torch.tensor([True, False]))
    kept = foreground(crop)[:1].expand(1, 3, -1, -1)
    assert torch.equal(masked[:1][kept], crop[:1][kept])
    assert not masked[:1][~kept].any()
    assert (~kept).any()
    assert torch.equal(masked[1:], crop[1:])


def test_a_share_of_large_crops_is_chosen_by_the_draw_and_small_ones_never_are() -> None:
    method = build(configs.ReLICv2(**SMALL, saliency=0.25, views=MULTI), TimmEncoder(COLOURED["vit"]))
    images = torch.zeros(1000, 3, 16, 16, dtype=torch.uint8)
    *views, bare = method.views(images, Draw(torch.Generator().manual_seed(0), 1000))
    assert len(views) == 6
    assert bare.shape == (1000, 4)
    assert_allclose(bare.double().mean(0), 0.25, atol=0.05)


def test_a_background_cannot_influence_the_loss_where_all_of_it_is_taken() -> None:
    """Each image on two backgrounds; only where crops are chosen the loss is the same."""
    method = made(configs.ReLICv2(**SMALL, views=Views(count=2))).eval()
    block = torch.zeros(16, 16, dtype=torch.bool)
    block[4:12, 4:12] = True
    images = 3 + random(5, 1, 16, 16)
    losses = {}
    for level in (-1.0, -1.1):
        image = torch.where(block, images, level)
        bare = torch.where(foreground(image), image, 0)
        assert not bare[:, :, :2].any()
        for chosen in (True, False):
            views = [image, image, torch.full((5, 2), chosen)]
            losses[level, chosen] = method(views, 0.5)["info_nce"].item()
    assert_allclose(losses[-1.0, True], losses[-1.1, True], rtol=1e-3)
    assert abs(losses[-1.0, False] - losses[-1.1, False]) > 10 * abs(losses[-1.0, True] - losses[-1.1, True])


# Bad input


def test_views_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValidationError, match="this method compares two global crops"):
        configs.ReLIC(views=Views(count=3))
    with pytest.raises(ValidationError, match="this method predicts one crop from another"):
        configs.ReLICv2(views=Views(count=1))
