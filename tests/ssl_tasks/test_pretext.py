"""Puzzles: losses at chance, what is to be told by nothing but what is in the image, and the ways around it that are closed."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from formulas import random, softmax
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import COLOURED, ENCODERS
from tiny_training import make
from torch import Tensor, nn

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.turns import quarter_turns, turns_of
from ssl_tasks.methods.pretext import jigsaw
from ssl_tasks.methods.pretext.relative_patch import one_colour

SMALL = {"hidden": 16, "branch": 8}
PLAIN = Views(count=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
"""The image as it is."""


def built(member: Any, encoder: Encoder = ENCODERS["convnet"], **changes: Any) -> Any:
    small = {name: value for name, value in SMALL.items() if name in member.model_fields}
    return make(member(**{**small, **changes}), encoder).train()


def images(count: int, channels: int = 1, side: int = 18, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def views(method: Any, batch: Tensor, seed: int = 0, rows: Tensor | None = None) -> Any:
    return method.views(batch, Draw(torch.Generator().manual_seed(seed), len(batch), rows=rows))


def silenced(method: Any) -> Any:
    """The method with a head that says the same of everything."""
    last = method.head if isinstance(method.head, nn.Linear) else method.head[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return method


@pytest.mark.parametrize(
    ("member", "changes", "expected"),
    [
        (configs.RotNet, {}, 1.38629436),
        (configs.RelativePatch, {}, 2.07944154),
        (configs.Jigsaw, {"permutations": 100}, 4.60517019),
        (configs.Jigsaw, {}, 6.90775528),
        (configs.ExemplarCNN, {}, math.log(80)),  # images of the stripes that it is built for
    ],
)
def test_a_head_that_says_nothing_has_the_loss_of_chance(member: Any, changes: dict[str, int], expected: float) -> None:
    method = silenced(built(member, **changes))
    (loss,) = method(views(method, images(6)), 0.5).values()
    assert_allclose(loss.item(), expected, rtol=1e-6)


# RotNet


def test_turned_copies_are_those_of_numpy_and_have_the_very_same_pixels() -> None:
    x = random(3, 2, 5, 5)
    turned = quarter_turns(x).view(4, 3, 2, 5, 5)
    assert turns_of(x).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for k in range(4):
        assert np.array_equal(turned[k].numpy(), np.rot90(x.numpy(), k, axes=(2, 3)))
        assert torch.equal(turned[k].flatten(2).sort().values, x.flatten(2).sort().values)


def test_rotnet_has_all_four_copies_of_each_image_in_one_batch_and_minimises_their_cross_entropy() -> None:
    method = built(configs.RotNet).double()
    seen = list[Tensor]()
    method.encoder.register_forward_hook(lambda _module, given, _: seen.append(given[0]))
    (crops,) = views(method, images(3))
    loss = method([crops.double()], 0.5)["rotation"]
    (batch,) = seen
    expected = np.concatenate([np.rot90(crops.double().numpy(), k, axes=(2, 3)) for k in range(4)])
    assert np.array_equal(batch.numpy(), expected)
    p = softmax(method.head(method.encoder(torch.from_numpy(expected.copy()))).detach().numpy())
    assert_allclose(loss.detach(), -np.mean([np.log(p[i, i // 3]) for i in range(12)]), rtol=1e-10)


class Blind(nn.Module):
    """Tells the mean and spread of an image, which no turn changes."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))], dim=1)


def test_what_no_turn_changes_is_of_no_help_to_rotnet_whatever_the_head() -> None:
    method = built(configs.RotNet).double()
    crops = views(method, images(8))[0].double()
    method.encoder = Blind()
    for seed in range(20):
        torch.manual_seed(seed)
        method.head = nn.Linear(2, 4).double()
        assert method([crops], 0.5)["rotation"] > math.log(4)


def test_rotnet_tells_turns_of_new_images_that_have_an_upright() -> None:
    """All are brighter below, under noise of their own."""
    method = built(configs.RotNet, views=PLAIN)
    below = torch.linspace(0, 100, 16, dtype=torch.float).view(-1, 1).byte()
    optimizer = torch.optim.AdamW(method.parameters(), 1e-2)
    for seed in range(25):
        optimizer.zero_grad()
        loss = method(views(method, images(16, side=16, seed=seed) // 2 + below), 0.5)["rotation"]
        loss.backward()
        optimizer.step()
    assert method.monitored(views(method, images(64, side=16, seed=99) // 2 + below))["accuracy"] > 0.9


# Relative patches


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_the_second_patch_lies_on_the_side_that_is_to_be_told(encoder: Encoder) -> None:
    """Each cell of the image is of one brightness, by which the tile is known; a hundredth of a spread of 0 is no noise."""
    method = built(configs.RelativePatch, encoder, views=PLAIN)
    sides = torch.tensor([5, 5, 6])
    image = torch.arange(9, dtype=torch.uint8).mul(28).view(3, 3).repeat_interleave(sides, 0).repeat_interleave(sides, 1)
    _, patches, side = views(method, image.expand(200, 1, 16, 16))
    cell = ((patches.mean(dim=(2, 3, 4)) * 0.5 + 0.5) * 255 / 28).round().long()
    assert (cell[:, 0] == 4).all()
    around = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])
    assert torch.equal(cell[:, 1], around[side])
    assert side.bincount().min() >= 10, "each side comes"


def test_relative_patch_minimises_the_cross_entropy_of_the_sides_from_features_of_each_patch() -> None:
    method = built(configs.RelativePatch, ENCODERS["vit"]).double().eval()
    _, patches, side = views(method, images(6))
    pair = torch.cat([method.encoder(patches[:, i].double()) for i in (0, 1)], dim=1)
    p = softmax(method.head(pair).detach().numpy())
    loss = method([patches, patches.double(), side], 0.5)["side"]
    assert_allclose(loss.detach(), -np.mean(np.log(p[np.arange(6), side])), rtol=1e-10)


def test_of_each_patch_one_colour_is_left_and_nothing_of_the_others() -> None:
    """However the dropped channels are shifted against the kept one, which is what a lens does, the patch is the same."""
    patches, other, noise = random(4, 2, 3, 8, 8), random(4, 2, 3, 8, 9)[..., :8], random(4, 2, 3, 9, 8)[:, :, :, :8]
    kept = torch.tensor([[0, 1], [2, 0], [1, 1], [2, 2]])
    is_kept = torch.nn.functional.one_hot(kept, 3).bool()[..., None, None]
    ours = one_colour(patches, kept, noise)
    assert torch.equal(one_colour(torch.where(is_kept, patches, other), kept, noise), ours)
    for image, patch in np.ndindex(4, 2):
        own = int(kept[image, patch])
        assert torch.equal(ours[image, patch, own], patches[image, patch, own])
        for channel in {0, 1, 2} - {own}:
            expected = noise[image, patch, channel] * patches[image, patch, own].std() / 100
            assert_allclose(ours[image, patch, channel], expected, rtol=1e-12)


def test_each_patch_keeps_a_colour_of_its_own_and_grey_images_stay_as_they_are() -> None:
    coloured = built(configs.RelativePatch, COLOURED["convnet"])
    _, patches, _ = views(coloured, images(60, channels=3))
    spread = patches.std(dim=(3, 4))
    kept = spread.argmax(dim=2)
    assert (spread.sort(dim=2).values[..., 1] < 0.05 * spread.amax(dim=2)).all()
    assert {tuple(pair) for pair in kept.tolist()} == {(i, j) for i in range(3) for j in range(3)}
    grey = torch.rand(2, 2, 1, 3, 3)
    assert torch.equal(one_colour(grey, torch.zeros(2, 2, dtype=torch.long), torch.randn(2, 2, 1, 3, 3)), grey)


# Jigsaw


def test_tiles_come_in_the_order_whose_number_is_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jigsaw, "standardised", lambda tiles: tiles)
    method = built(configs.Jigsaw, permutations=100, views=PLAIN)
    sides = torch.tensor([5, 5, 6])
    image = torch.arange(9, dtype=torch.uint8).mul(28).view(3, 3).repeat_interleave(sides, 0).repeat_interleave(sides, 1)
    _, tiles, number = views(method, image.expand(300, 1, 16, 16))
    assert torch.equal(((tiles.mean(dim=(2, 3, 4)) * 0.5 + 0.5) * 255 / 28).round().long(), method.orders[number])
    assert len(number.unique()) > 90


def test_jigsaw_minimises_the_cross_entropy_of_the_permutations_and_tiles_meet_in_the_head_alone() -> None:
    method = built(configs.Jigsaw, ENCODERS["vit"], permutations=20).double().eval()
    crops, tiles, number = views(method, images(6))
    tiles = tiles.double()
    branches = [method.branch(method.encoder(tiles[:, i])) for i in range(9)]
    p = softmax(method.head(torch.cat(branches, dim=1)).detach().numpy())
    assert_allclose(method([crops, tiles, number], 0.5)["permutation"].detach(), -np.mean(np.log(p[np.arange(6), number])), rtol=1e-10)


# Exemplars


def test_every_image_is_a_class_wherever_it_stands_in_a_batch() -> None:
    method = built(configs.ExemplarCNN).double()
    rows = torch.tensor([7, 79, 0, 7])
    crops, image = views(method, images(4), rows=rows)
    assert torch.equal(image, rows)
    assert method.head.out_features == 80
    loss = method([crops.double(), image], 0.5)["exemplar"]
    p = softmax(method.head(method.encoder(crops.double())).detach().numpy())
    assert_allclose(loss.detach(), -np.mean(np.log(p[np.arange(4), rows])), rtol=1e-10)


def test_an_exemplar_is_changed_anew_each_time() -> None:
    method = built(configs.ExemplarCNN)
    batch = images(4)
    first, second = (views(method, batch, seed)[0] for seed in (0, 1))
    assert ((first - second).abs().mean(dim=(1, 2, 3)) > 0.1).all()


# What is refused


@pytest.mark.parametrize("member", [configs.RotNet, configs.RelativePatch, configs.Jigsaw, configs.ExemplarCNN])
@pytest.mark.parametrize("wrong", [{"count": 2}, {"count": 1, "local_count": 1}])
def test_puzzles_are_made_of_one_crop(member: Any, wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="this method makes its puzzle of one crop of an image: count must be 1 and local_count 0"):
        member(views=wrong)


def test_patches_that_may_touch_and_permutations_that_are_too_many_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"two patches that move by jitter 0\.3 each may touch across a gap of 0\.5: make it less than half"):
        configs.RelativePatch(jitter=0.3)
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        configs.Jigsaw(permutations=1001)
