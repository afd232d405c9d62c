"""data2vec and data2vec 2: losses and targets as loops have them, what is seen and what is not, and masks of an image that share a teacher's pass."""

from typing import Any

import numpy as np
import pytest
import torch
from masked_views import BATCH, blocks_of, draw, drift, make, over_pixels, pictures, seen
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from schemas.errors import UserError
from schemas.methods import Data2Vec, Data2Vec2
from schemas.views import Views
from ssl_tasks.data.blocks import all_but_blocks
from ssl_tasks.losses.latent import instance_normalised, layer_normalised, masked_smooth_l1, smooth_l1
from ssl_tasks.measures import spread
from ssl_tasks.nn.conv_decoder import ConvDecoder
from ssl_tasks.schedules import warmed

ONE = Data2Vec(target_blocks=2)
TWO = Data2Vec2(target_blocks=2, masks=3, decoder_width=32, decoder_depth=2)
both = pytest.mark.parametrize("config", [ONE, TWO], ids=["data2vec", "data2vec2"])


def said(method: Any, images: Tensor, masks: Tensor) -> Tensor:
    """The student's answers, of either method."""
    found = method.predicted(images, masks)
    return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]  # a tensor


def unseen(masks: Tensor) -> Tensor:
    """Patches of each image that no mask leaves to see, (B, N)."""
    return masks if masks.ndim == 2 else masks.all(dim=1)


# Losses and targets


def by_loops(predicted: NDArray[np.float64], target: NDArray[np.float64], mask: NDArray[np.bool_], beta: float) -> float:
    """https://arxiv.org/abs/2202.03555, equation 4, over masked patches and dimensions."""
    losses: list[float] = []
    for b, n in np.argwhere(mask):
        for f, y in zip(predicted[b, n], target[b, n], strict=True):
            d = abs(float(y - f))
            losses.append(d * d / 2 / beta if d <= beta else d - beta / 2)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.0])
def test_the_loss_is_the_papers_over_masked_patches(beta: float) -> None:
    predicted, target = 2 * torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]).bool()
    assert_allclose(masked_smooth_l1(predicted, target, mask, beta), by_loops(predicted.numpy(), target.numpy(), mask.numpy(), beta), rtol=1e-12)
    everywhere = by_loops(predicted.numpy(), target.numpy(), np.ones((3, 5), dtype=bool), beta)
    assert_allclose(smooth_l1(predicted, target, beta), everywhere, rtol=1e-12)


def layer_norm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)  # type: ignore[no-any-return]  # of NumPy


def instance_norm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)  # type: ignore[no-any-return]  # of NumPy


def test_normalisations_are_over_a_patchs_dimensions_and_over_an_images_patches() -> None:
    x = 3 + torch.randn(4, 5, 7, dtype=torch.float64)
    assert_allclose(layer_normalised(x), layer_norm(x.numpy()), rtol=1e-12, atol=1e-12)
    assert_allclose(instance_normalised(x), instance_norm(x.numpy()), rtol=1e-12, atol=1e-12)


def test_a_target_is_the_mean_of_the_teachers_normalised_upper_blocks() -> None:
    first, second = make(ONE), make(TWO)
    for method in (first, second):
        drift(method)
    images = seen(first)[0]
    blocks = [block.numpy() for block in blocks_of(first.teacher.network, images)]
    assert_allclose(first.targets(images), (layer_norm(blocks[1]) + layer_norm(blocks[2])) / 2, rtol=1e-9, atol=1e-9)
    blocks = [block.numpy() for block in blocks_of(second.teacher.network, images)]
    assert_allclose(second.targets(images), layer_norm((instance_norm(blocks[1]) + instance_norm(blocks[2])) / 2), rtol=1e-9, atol=1e-9)


def test_the_losses_of_a_method_are_those_of_its_predictions() -> None:
    method = make(ONE)
    images, mask = seen(method)
    expected = masked_smooth_l1(method.predicted(images, mask), method.targets(images), mask, beta=2.0)
    assert method([images, mask], 0.5) == {"data2vec": expected}
    method = make(TWO)
    images, masks = seen(method)
    predicted, cls = (t.detach().numpy() for t in method.predicted(images, masks))
    target = method.targets(images).repeat_interleave(3, 0).numpy()
    terms = method([images, masks], 0.5)
    assert_allclose(terms["data2vec"].item(), ((predicted - target) ** 2).mean(-1)[masks.flatten(0, 1).numpy()].mean(), rtol=1e-12)
    assert_allclose(terms["cls"].item(), 0.01 * ((cls - target.mean(1)) ** 2).mean(), rtol=1e-12)


# What goes in


@both
def test_the_student_sees_no_masked_pixel_and_the_teacher_sees_all(config: Any) -> None:
    method = make(config).eval()
    images, masks = seen(method)
    hidden = over_pixels(unseen(masks))
    assert hidden.any()
    altered = torch.where(hidden, images + 3, images)
    assert torch.equal(said(method, altered, masks), said(method, images, masks))
    assert not torch.allclose(said(method, images + 3, masks), said(method, images, masks))
    assert not torch.allclose(method.targets(altered), method.targets(images))


@both
def test_no_gradient_flows_into_targets_or_the_teacher(config: Any) -> None:
    method = make(config)
    images, masks = seen(method)
    images.requires_grad_()
    torch.autograd.backward(sum(method([images, masks], 0.5).values()))
    assert images.grad is not None
    assert not images.grad[over_pixels(unseen(masks))].any(), "they reach the loss through the targets alone"
    assert images.grad[~over_pixels(unseen(masks))].any()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_follows_by_its_warmed_momentum() -> None:
    assert [warmed(progress, 0.9, 0.99, 0.3) for progress in (0.0, 0.3, 0.9)] == pytest.approx([0.9, 0.99, 0.99])
    assert warmed(0.15, 0.9, 0.99, 0.3) == pytest.approx(0.945)
    assert warmed(0.0, 0.9, 0.99, 0.0) == 0.99
    method = make(TWO.model_copy(update={"momentum": 0.9, "momentum_end": 0.99, "momentum_warmup": 0.5}))
    before = [p.clone() for p in method.teacher.parameters()]
    drift(method)
    method.after_step(0.25)
    for old, new, student in zip(before, method.teacher.parameters(), method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.945 * old + 0.055 * student, rtol=1e-12, atol=1e-12)


# What keeps targets alive


def test_features_that_shrink_or_shift_leave_the_targets_as_they_are() -> None:
    x = torch.randn(4, 16, 32, dtype=torch.float64)
    for normalised in (layer_normalised, instance_normalised):
        torch.testing.assert_close(normalised(0.1 * x + 5), normalised(x), rtol=0, atol=0.01)


def test_what_all_patches_share_is_no_part_of_an_instance_normalised_target() -> None:
    x = torch.randn(4, 16, 32, dtype=torch.float64)
    torch.testing.assert_close(instance_normalised(x + 10 * torch.randn(4, 1, 32, dtype=torch.float64)), instance_normalised(x))


def test_targets_that_are_all_alike_or_tell_of_places_alone_show() -> None:
    healthy, places = torch.randn(8, 16, 32), torch.randn(1, 16, 32).expand(8, -1, -1)
    assert spread(healthy)["target_std"] > 0.9
    assert spread(healthy)["target_image_std"] > 0.9
    assert spread(torch.ones(8, 16, 32)) == {"target_std": 0, "target_image_std": 0}
    assert spread(places)["target_std"] > 0.8
    assert spread(places)["target_image_std"] == 0


@both
def test_the_monitor_sees_a_teacher_that_collapses(config: Any) -> None:
    method = make(config).eval()
    assert method.monitored(seen(method))["target_image_std"] > 0.1
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.zero_()
    assert method.monitored(seen(method))["target_std"] < 1e-6


# Masks


def test_masks_have_the_papers_size() -> None:
    at_224 = {"image_size": 224, "patch_size": 16, "depth": 2}
    mask = make(ONE, **at_224).views(pictures(2), draw(2))[1]
    assert mask.shape == (2, 196)
    assert mask.sum(1).tolist() == [118, 118]
    masks = make(Data2Vec2(target_blocks=2, decoder_width=32), **at_224).views(pictures(2), draw(2))[1]
    assert masks.shape == (2, 16, 196)
    assert set(masks.sum(2).flatten().tolist()) == {157}  # 80%
    assert len({tuple(row) for row in masks[0].tolist()}) == 16


@pytest.mark.parametrize(("grid", "masked"), [(14, 157), (14, 187), (5, 12), (2, 3)])
def test_all_but_blocks_are_laid_one_after_the_other(grid: int, masked: int) -> None:
    found = all_but_blocks(draw(3), grid, masked, masks=2)
    again = draw(3)
    orders, ties = again.uniforms(2, grid, grid), again.uniforms(2, grid * grid)
    for b in range(3):
        for m in range(2):
            visible: set[int] = set()
            order = orders[b, m].flatten()
            for centre in order.argsort().tolist():
                row, column = divmod(centre, grid)
                block = {y * grid + x for y in range(row - 1, row + 2) for x in range(column - 1, column + 2) if 0 <= y < grid and 0 <= x < grid} - visible
                visible |= set(sorted(block, key=lambda n: float(ties[b, m, n]))[: grid * grid - masked - len(visible)])
            assert visible == set((~found[b, m]).nonzero().flatten().tolist())


def test_each_process_has_its_rows_of_the_masks_of_one() -> None:
    whole = all_but_blocks(draw(4), 14, 157, 3)
    assert torch.equal(torch.cat([all_but_blocks(draw(4, own), 14, 157, 3) for own in (slice(0, 2), slice(2, 4))]), whole)


def test_several_masks_cost_one_pass_of_the_teacher_and_are_learned_as_if_apart() -> None:
    method = make(TWO)
    images, masks = seen(method)
    rows: dict[str, list[int]] = {"teacher": [], "student": []}
    method.teacher.network.backbone.blocks[0].register_forward_hook(lambda _, inputs, __: rows["teacher"].append(len(inputs[0])))
    method.encoder.backbone.patch_embed.register_forward_hook(lambda _, inputs, __: rows["student"].append(len(inputs[0])))
    together = method([images, masks], 0.5)
    assert rows == {"teacher": [BATCH], "student": [3 * BATCH]}
    apart = [method([images, masks[:, i : i + 1]], 0.5) for i in range(3)]
    for name, term in together.items():
        assert_allclose(term.item(), np.mean([each[name].item() for each in apart]), rtol=1e-10)


def test_the_convolutional_decoder_puts_tokens_in_their_places_and_sees_as_far_as_its_kernels() -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(width=8, hidden=16, depth=2, kernel=3, groups=4).double()
    visible, kept = torch.randn(1, 2, 8, dtype=torch.float64, requires_grad=True), torch.tensor([[0, 30]])  # of 6 x 6
    answers = decoder(visible, kept, 6)
    for place, near in ((14, [True, False]), (7, [True, False]), (20, [False, True]), (35, [False, False])):
        gradient = torch.autograd.grad(answers[0, place].sum(), visible, retain_graph=True)[0][0]
        assert [bool(token.any()) for token in gradient] == near, "within two rows and columns"


# Config


@pytest.mark.parametrize(
    ("config", "encoder", "line"),
    [
        (Data2Vec(), {}, r"^data2vec: method.target_blocks 6 is more than the 3 blocks of encoder 'vit_tiny_patch16_224': set it to at most 3$"),
        (Data2Vec2(), {}, r"^data2vec2: method.target_blocks 10 is more than the 3 blocks"),
        (ONE, {"patch_size": 16}, r"^data2vec: encoder.image_size 16 is a single patch"),
        (TWO, {"patch_size": 16}, r"^data2vec2: encoder.image_size 16 is a single patch"),
        (TWO, {"width": 24}, r"^data2vec2: method.decoder_groups 16 does not divide the encoder's width 24$"),
        (TWO, {"options": {"class_token": False, "global_pool": "avg"}}, r"^data2vec2: encoder 'vit_tiny_patch16_224' has no CLS token, .* set it to 0$"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(config: Any, encoder: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        make(config, **encoder)


def test_an_encoder_without_cls_token_learns_without_its_loss() -> None:
    method = make(TWO.model_copy(update={"cls_weight": 0.0}), options={"class_token": False, "global_pool": "avg"})
    assert set(method(seen(method), 0.5)) == {"data2vec"}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"decoder_width": 40}, "decoder_width 40 is not a multiple of decoder_groups 16"),
        ({"decoder_kernel": 2}, "decoder_kernel 2 is even"),
        ({"mask_ratio": 1.0}, "less than 1"),
        ({"views": Views(count=2)}, "this method .* count must be 1"),
    ],
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        Data2Vec2(**config)
