"""DenseCL and VICRegL: which places belong together, their losses, and what keeps them honest."""

from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, moco_by_formula, random, two
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import ENCODERS
from torch import Tensor
from torch.nn.functional import normalize

from schemas import methods as configs
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment, augment_with_boxes
from ssl_tasks.losses.decorrelation import EPSILON, covariance, variance
from ssl_tasks.losses.places import place_covariance, place_variance
from ssl_tasks.methods import build
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.places import centres, most_alike, nearest_pairs, taken

DENSECL: dict[str, Any] = {"hidden": 24, "output": 8, "queue": 10}
VICREGL: dict[str, Any] = {"hidden": 24, "output": 8, "local_hidden": 16, "local_output": 6}


def made(config: Any, encoder: str = "vit") -> Any:
    torch.manual_seed(0)
    return build(config, TimmEncoder(ENCODERS[encoder])).double().train()


def draw(images: int) -> Draw:
    return Draw(torch.Generator().manual_seed(0), images)


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # of torch


# Which places belong together


def test_the_place_most_alike_is_found_by_cosine_whatever_the_lengths() -> None:
    places = normalize(random(2, 5, 7), dim=2)
    order = torch.stack([torch.randperm(5, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    lengths = torch.linspace(0.1, 30, 5).view(1, 5, 1)
    found = most_alike(places, taken(places, order) * lengths)
    assert torch.equal(order.gather(1, found), torch.arange(5).expand(2, 5))


def test_the_nearest_pairs_are_kept_nearest_first_by_distances_with_loops() -> None:
    places, others = two(2, 6, 3)
    ours = nearest_pairs(places, others, 4)
    for image in range(2):
        nearest = [min((float((p - o).norm()), i, j) for j, o in enumerate(others[image])) for i, p in enumerate(places[image])]
        expected = sorted(nearest)[:4]
        assert [(int(i), int(j)) for i, j in zip(ours[0][image], ours[1][image], strict=True)] == [(i, j) for _, i, j in expected]


def test_where_there_are_fewer_places_than_pairs_are_asked_for_all_are_kept() -> None:
    mine, theirs = nearest_pairs(random(2, 6, 3), random(2, 4, 3), 20)
    assert mine.shape == theirs.shape == (2, 6)


def test_the_middle_of_places_are_points_of_the_box_from_the_other_side_where_it_was_mirrored() -> None:
    box = torch.tensor([[10.0, 20.0, 8.0, 4.0, 0.0], [10.0, 20.0, 8.0, 4.0, 1.0]])
    plain, mirrored = centres(box, 2, 2).tolist()
    assert plain == [[12, 21], [16, 21], [12, 23], [16, 23]]
    assert mirrored == [[16, 21], [12, 21], [16, 23], [12, 23]]


def ramps(images: int, side: int) -> Tensor:
    """Images whose first channel tells the column, and the second the row."""
    along = torch.arange(side, dtype=torch.uint8) * (255 // side)
    across, down = along.expand(side, side), along[:, None].expand(side, side)
    return torch.stack([across, down, torch.zeros_like(down)]).expand(images, -1, -1, -1).contiguous()


def test_boxes_tell_which_point_of_the_image_each_place_of_a_crop_shows() -> None:
    """The colours of the crops themselves say where they were cut out."""
    plain = Views(count=2, local_count=1, local_size=16, scale=(0.2, 0.8), jitter=0, grey=0, blur=0)
    views, boxes = augment_with_boxes(plain, ramps(20, 48), 24, draw(20))
    assert set(boxes[:, :, 4].flatten().tolist()) == {0.0, 1.0}
    for view, box in zip(views, boxes.unbind(1), strict=True):
        cells = torch.nn.functional.adaptive_avg_pool2d(view, 4)
        colours = cells[:, :2] * torch.tensor([0.229, 0.224]).view(1, 2, 1, 1) + torch.tensor([0.485, 0.456]).view(1, 2, 1, 1)
        seen = colours.flatten(2).mT * 255 / (255 // 48) + 0.5
        assert_allclose(seen, centres(box, 4, 4), atol=0.3)


def test_boxes_are_told_without_other_views() -> None:
    config, images = Views(count=2, local_count=2, local_size=8), ramps(4, 32)
    first, second = draw(4), draw(4)
    for ours, theirs in zip(augment_with_boxes(config, images, 16, first)[0], augment(config, images, 16, second), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(first.uniform(), second.uniform())


# DenseCL


def views(images: int = 4) -> list[Tensor]:
    return list(random(2, images, 1, 16, 16))


@pytest.mark.parametrize("encoder", ["vit", "convnet"])
def test_densecl_is_mocos_loss_on_views_and_on_places_with_the_key_most_alike(encoder: str) -> None:
    method = made(configs.DenseCL(**DENSECL, dense_weight=0.3), encoder)
    first, second = views()
    query, key = method.encoder.tokens(first), method.key_encoder.network.tokens(second)
    r, t = method.dense_head(query.patches), method.key_dense_head(key.patches)
    similarity = np.einsum("bnc,bmc->bnm", *(normalize(f.patches, dim=2).detach().numpy() for f in (query, key)))
    own = torch.stack([t[image][similarity[image].argmax(1)] for image in range(4)])
    whole = moco_by_formula(method.head(query.pooled), method.key_head(key.pooled), method.queue.rows, 0.2)
    dense = moco_by_formula(r.flatten(0, 1), own.flatten(0, 1), method.dense_queue.rows, 0.2)
    terms = method([first, second], 0.5)
    assert_allclose(terms["info_nce"].detach(), 0.7 * whole, rtol=1e-8)
    assert_allclose(terms["dense_info_nce"].detach(), 0.3 * dense, rtol=1e-8)


def test_densecls_queues_get_keys_of_views_and_means_of_places_after_the_step_alone() -> None:
    method = made(configs.DenseCL(**DENSECL, momentum=1.0))
    before = method.queue.rows.clone(), method.dense_queue.rows.clone()
    method(views(), 0.5)
    assert torch.equal(method.queue.rows, before[0])
    assert torch.equal(method.dense_queue.rows, before[1])
    key = method.key_encoder.network.tokens(views()[1])
    method.after_step(0.5)
    assert_allclose(method.queue.rows[:4], normalize(method.key_head(key.pooled), dim=1), atol=1e-9)
    assert_allclose(method.dense_queue.rows[:4], normalize(method.key_dense_head(key.patches).mean(1), dim=1), atol=1e-9)
    assert torch.equal(method.dense_queue.rows[4:], before[1][4:])


def test_no_gradient_reaches_densecls_keys() -> None:
    method = made(configs.DenseCL(**DENSECL))
    backward(torch.stack(list(method(views(), 0.5).values())).sum())
    keys = (method.key_encoder, method.key_head, method.key_dense_head)
    assert all(p.grad is None and not p.requires_grad for part in keys for p in part.parameters())
    assert all(p.grad is not None for part in (method.encoder, method.head, method.dense_head) for p in part.parameters())


# VICRegL


def test_variance_and_covariance_of_places_are_those_of_each_matched_place_over_the_images() -> None:
    y, y_prime = two(6, 3, 4)
    expected_variance, expected_covariance = [], []
    for place in range(3):
        for z in (y[:, place].numpy(), y_prime[:, place].numpy()):
            expected_variance.append(np.maximum(0, 1 - np.sqrt(z.var(axis=0, ddof=1) + EPSILON)).mean())
            c: Matrix = np.cov(z.T)
            expected_covariance.append(((c**2).sum() - (np.diag(c) ** 2).sum()) / 4)
    assert_allclose(place_variance(y, y_prime), np.mean(expected_variance), rtol=1e-12)
    assert_allclose(place_covariance(y, y_prime), 2 * np.mean(expected_covariance), rtol=1e-12)


def test_the_terms_of_one_place_are_vicregs() -> None:
    z, z_prime = two(8, 5)
    assert_allclose(place_variance(z[:, None], z_prime[:, None]), variance(z, z_prime), rtol=1e-12)
    assert_allclose(place_covariance(z[:, None], z_prime[:, None]), covariance(z, z_prime), rtol=1e-12)


def test_the_oracle_of_a_collapsed_embedding_is_vicregs_own() -> None:
    """All zero: 25 x (1 - sqrt(1e-4)) = 24.75 in the authors' scaling."""
    zeros = torch.zeros(4, 3, 2, dtype=torch.float64)
    assert_allclose(25 * place_variance(zeros, zeros), 24.75, rtol=1e-12)
    spread = 2 * random(64, 3, 2)
    assert place_variance(spread, spread) < 0.01


def vicreg_by_hand(z: Tensor, z_prime: Tensor) -> float:
    """25, 25 and 1 times the terms, of (B, D) or, averaged over places, of (B, K, D)."""
    if z.ndim == 3:
        return float(np.mean([vicreg_by_hand(z[:, k], z_prime[:, k]) for k in range(z.shape[1])]))
    pair: list[Matrix] = [z.detach().numpy(), z_prime.detach().numpy()]
    spread = [np.maximum(0, 1 - np.sqrt(x.var(axis=0, ddof=1) + EPSILON)).mean() for x in pair]
    squares = [np.cov(x.T) ** 2 for x in pair]
    off = sum((c.sum() - np.trace(c)) / len(c) for c in squares)
    return float(25 * ((pair[0] - pair[1]) ** 2).mean() + 25 * np.mean(spread) + off)


@pytest.mark.parametrize(("encoder", "local"), [("vit", 0), ("convnet", 0), ("vit", 2), ("convnet", 2)])
def test_vicregl_is_vicreg_on_views_and_on_both_kinds_of_matched_places_in_both_directions(encoder: str, local: int) -> None:
    crops = Views(count=2, local_count=local, local_size=8)
    method = made(configs.VICRegL(**VICREGL, matches=5, local_matches=2, views=crops), encoder)
    *views, boxes = (view.double() for view in method.views(torch.randint(0, 256, (6, 1, 20, 20), dtype=torch.uint8), draw(6)))
    z, y = method._expanded(views)
    assert [own.shape[1] for own in y] == [16, 16, 4, 4][: 2 + local]
    points = [centres(boxes[:, i], *[int(own.shape[1] ** 0.5)] * 2) for i, own in enumerate(y)]
    pairs = [(0, 1), *((i, j) for i in (0, 1) for j in range(2, 2 + local))]
    found: dict[str, list[float]] = {"location": [], "feature": []}
    for i, j in pairs:
        for a, b in ((i, j), (j, i)):
            for name, near in (("location", points), ("feature", y)):
                mine, theirs = nearest_pairs(near[a], near[b], 5 if j < 2 else 2)
                found[name].append(vicreg_by_hand(taken(y[a], mine), taken(y[b], theirs)))
    terms = method([*views, boxes], 0.5)
    assert_allclose(terms["global"].detach(), 0.75 * np.mean([vicreg_by_hand(z[i], z[j]) for i, j in pairs]), rtol=1e-8)
    for name, losses in found.items():
        assert_allclose(terms[name].detach(), 0.25 * np.mean(losses), rtol=1e-8)


def test_a_crop_and_its_mirror_image_are_matched_place_by_place() -> None:
    """The same box twice, mirrored once: the first place of a row shows what the last one of the other shows."""
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0, 0.0]])
    mirrored = torch.tensor([[0.0, 0.0, 16.0, 16.0, 1.0]])
    mine, theirs = nearest_pairs(centres(box, 4, 4), centres(mirrored, 4, 4), 16)
    assert torch.equal(theirs // 4, mine // 4)
    assert torch.equal(theirs % 4, 3 - mine % 4)


def test_places_of_crops_that_do_not_overlap_are_the_last_to_be_matched() -> None:
    """Of two crops side by side with a common strip, only places of the strip are kept."""
    left, right = torch.tensor([[0.0, 0.0, 16.0, 16.0, 0.0]]), torch.tensor([[12.0, 0.0, 16.0, 16.0, 0.0]])
    mine, theirs = nearest_pairs(centres(left, 4, 4), centres(right, 4, 4), 4)
    assert set((mine % 4).flatten().tolist()) == {3}
    assert set((theirs % 4).flatten().tolist()) == {0}


# Bad input


def test_views_that_these_methods_cannot_learn_from_are_refused() -> None:
    with pytest.raises(ValidationError, match="this method compares two global crops"):
        configs.DenseCL(views=Views(count=3))
    with pytest.raises(ValidationError, match="this method predicts one crop from another"):
        configs.VICRegL(views=Views(count=1))
    for change in ({"rotation": 10.0}, {"shear": 0.1}):
        with pytest.raises(ValidationError, match=f"this method finds a point of the image again by the crops' boxes: {next(iter(change))} must be 0"):
            configs.VICRegL(views=Views(**change))  # type: ignore[arg-type]  # of several types
