"""NNCLR, MSF, CLSA and DirectCLR: which neighbour is taken, who learns from whom, and what cannot be learned from."""

from typing import Any

import numpy as np
import pytest
import torch
from formulas import double, random, softmax, unit
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import BATCH, CASES, ENCODERS
from test_every_method import step, views_of
from torch import Tensor
from torch.nn.functional import normalize

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.fitness import check_method
from schemas.spec import Unfit
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.contrastive import moco
from ssl_tasks.losses.neighbours import across_views, divergence, mean_shift
from ssl_tasks.methods.contrastive.clsa import CLSA
from ssl_tasks.methods.contrastive.directclr import DirectCLR
from ssl_tasks.methods.contrastive.nnclr import NNCLR
from ssl_tasks.methods.self_distillation.msf import MSF
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.queue import Queue


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # of torch


def made(kind: str, encoder: str = "convnet") -> Any:
    return CASES[f"{kind}-{encoder}"].make()


def test_the_nearest_rows_of_a_queue_come_in_the_order_of_their_cosines() -> None:
    queue = Queue(30, 4).double()
    anchors = torch.from_numpy(unit(random(5, 4)))
    cosines = anchors.numpy() @ queue.rows.numpy().T
    assert torch.equal(queue.nearest(anchors, 3), queue.rows[torch.from_numpy(np.argsort(-cosines, axis=1)[:, :3].copy())])


def test_the_positive_of_nnclr_is_the_neighbour_of_the_other_view_which_its_prediction_must_find() -> None:
    """By hand: both directions, the predictions of all images as candidates."""
    method: NNCLR = made("nnclr").double().eval()
    views = [view.double() for view in views_of(method)]
    z, z_prime = (method.projector(method.encoder(view)) for view in views)
    p, p_prime = (unit(method.predictor(each).detach()) for each in (z, z_prime))
    rows = method.queue.rows.numpy()
    friends, friends_prime = (rows[(unit(each.detach()) @ rows.T).argmax(axis=1)] for each in (z, z_prime))

    def direction(friend: Any, prediction: Any) -> float:
        return float(-np.log(np.diag(softmax(friend @ prediction.T / 0.1))).mean())

    expected = (direction(friends, p_prime) + direction(friends_prime, p)) / 2
    assert_allclose(method(views, 0.5)["nnclr"].item(), expected, rtol=1e-10)
    with_its_own_view = (direction(friends, p) + direction(friends_prime, p_prime)) / 2  # as some texts print it
    assert abs(with_its_own_view - expected) > 1e-3


def test_an_image_is_no_neighbour_of_itself_in_nnclr_and_enters_the_queue_as_its_plain_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    method: NNCLR = made("nnclr")
    views = views_of(method)
    before = method.queue.rows.clone()
    sought: list[Tensor] = []
    nearest = method.queue.nearest

    def watched(anchors: Tensor, count: int = 1) -> Tensor:
        sought.append(method.queue.rows.clone())
        return nearest(anchors, count)

    monkeypatch.setattr(method.queue, "nearest", watched)
    method(views, 0.5)
    assert sought
    assert all(torch.equal(rows, before) for rows in sought)
    z = normalize(method.projector(method.encoder(torch.cat(views))).chunk(2)[0], dim=1)
    torch.testing.assert_close(method.queue.rows[:BATCH], z.detach())
    assert not [name for name, _ in method.named_modules() if "teacher" in name or "key" in name]


def test_the_target_of_msf_is_its_own_first_neighbour() -> None:
    method: MSF = made("msf")
    views = views_of(method)
    target = normalize(method.target_projector(method.target_encoder(views[1])), dim=1)
    method(views, 0.5)
    torch.testing.assert_close(method.memory.nearest(target)[:, 0], target)
    torch.testing.assert_close(method.memory.rows[:BATCH], target)


def test_only_the_predicting_side_of_msf_learns() -> None:
    method: MSF = made("msf")
    backward(method(views_of(method), 0.5)["mean_shift"])
    assert all(p.grad is None for part in (method.target_encoder, method.target_projector) for p in part.parameters())
    assert all(p.grad is not None for part in (method.encoder, method.projector, method.predictor) for p in part.parameters())


def test_neighbours_of_its_kind_draw_an_image_of_msf_to_their_middle() -> None:
    """The mean-shift step: downhill is towards the mean of the neighbours, not to the target alone."""
    target, friend = torch.eye(3, dtype=torch.float64)[:2]
    prediction = double([[0.3, 0.3, 1.0]]).requires_grad_()
    for _ in range(300):
        (slope,) = torch.autograd.grad(mean_shift(prediction, torch.stack([target, friend])[None]), prediction)
        prediction = (prediction - 0.5 * slope).detach().requires_grad_()
    torch.testing.assert_close(normalize(prediction.detach(), dim=1)[0], normalize(target + friend, dim=0), atol=1e-6, rtol=0)


def test_the_target_of_msf_sees_no_change_of_colours() -> None:
    method: MSF = made("msf")
    grey = torch.full((BATCH, 1, 18, 18), 90, dtype=torch.uint8)
    predicting, target = method.views(grey, Draw(torch.Generator().manual_seed(0), BATCH))
    assert target.std() < 1e-6
    assert predicting.std() > 0.1


# CLSA


def test_clsa_contrasts_weak_views_and_compares_strong_ones_by_the_whole_queue() -> None:
    method: CLSA = made("clsa").eval()
    weak, key_view, strong = views_of(method)
    assert strong.shape[-1] == 8  # small as a local crop
    q, s, k = method.head(method.encoder(weak)), method.head(method.encoder.multi_crop([strong])[0].pooled), method.key_head(method.key_encoder(key_view))
    terms = method([weak, key_view, strong], 0.5)
    torch.testing.assert_close(terms["info_nce"], moco(q, k, method.queue.rows, 0.2))
    torch.testing.assert_close(terms["divergence"], divergence(s, q, k, method.queue.rows, 0.2))


def test_no_gradient_of_the_contrast_comes_from_strong_views() -> None:
    method: CLSA = made("clsa").eval()
    views = [view.requires_grad_() for view in views_of(method)]
    backward(method(views, 0.5)["info_nce"])
    assert views[0].grad is not None
    assert views[0].grad.any()
    assert views[2].grad is None or not views[2].grad.any()


def test_several_strong_views_add_up() -> None:
    case = CASES["clsa-convnet"]
    config = case.config.model_copy(update={"strong": case.config.strong.model_copy(update={"count": 2})})
    torch.manual_seed(0)
    method = CLSA(config, TimmEncoder(case.encoder)).eval()
    views = views_of(method)
    first, second = (method([*views[:2], strong], 0.5)["divergence"] for strong in views[2:])
    torch.testing.assert_close(method(views, 0.5)["divergence"], first + second)


def test_strong_views_are_changed_more_than_weak_ones() -> None:
    """Of an image without detail, all that varies between views is colour, and the black corners of turned ones."""
    method: CLSA = made("clsa")
    flat = torch.full((BATCH, 1, 18, 18), 128, dtype=torch.uint8)
    weak, _, strong = method.views(flat, Draw(torch.Generator().manual_seed(0), BATCH))
    assert strong.mean(dim=(1, 2, 3)).std() > 2 * weak.mean(dim=(1, 2, 3)).std()
    assert (strong.std(dim=(1, 2, 3)) > 0.01).sum() >= 3
    assert not (weak.std(dim=(1, 2, 3)) > 0.01).any()


def test_keys_of_clsa_enter_the_queue_after_the_step() -> None:
    method: CLSA = made("clsa")
    views = views_of(method)
    before = method.queue.rows.clone()
    method(views, 0.5)
    assert torch.equal(method.queue.rows, before)
    method.after_step(0.5)
    assert int(method.queue.pushed) == BATCH


# DirectCLR


def test_directclr_has_nothing_but_the_encoder_and_sees_its_first_dimensions() -> None:
    torch.manual_seed(0)
    method = DirectCLR(configs.DirectCLR(dim=10), TimmEncoder(ENCODERS["vit"])).eval()
    assert {name.split(".")[0] for name, _ in method.named_parameters()} == {"encoder"}
    views = views_of(method)
    r, r_prime = (method.encoder(view) for view in views)
    expected = (across_views(r[:, :10], r_prime[:, :10], 0.1) + across_views(r_prime[:, :10], r[:, :10], 0.1)) / 2
    torch.testing.assert_close(method(views, 0.5)["info_nce"], expected)
    features = method.encoder(torch.cat(views)).detach().requires_grad_()
    z, z_prime = features[:, :10].chunk(2)
    (gradient,) = torch.autograd.grad(across_views(z, z_prime, 0.1), features)
    assert gradient[:, :10].any(dim=0).all()
    assert not gradient[:, 10:].any()


def test_dimensions_that_directclr_does_not_see_learn_through_what_they_share() -> None:
    torch.manual_seed(0)
    method = DirectCLR(configs.DirectCLR(dim=10), TimmEncoder(ENCODERS["vit"])).eval()
    views = views_of(method)
    before = method.encoder(views[0])[:, 10:].detach()
    method.train()
    step(method, torch.optim.SGD(method.parameters(), 0.1), views)
    moved = (method.eval().encoder(views[0])[:, 10:] - before).abs().amax(dim=0)
    assert (moved > 1e-6).all()


# What is refused


@pytest.mark.parametrize(
    ("member", "written", "says"),
    [
        (configs.NNCLR, {"views": Views(count=3)}, "this method compares two global crops"),
        (configs.AdCo, {"views": Views(count=1)}, "this method compares two global crops"),
        (configs.CLSA, {"views": Views(count=2, local_count=2)}, "this method compares two global crops"),
        (configs.DirectCLR, {"views": Views(count=4)}, "this method compares two global crops"),
        (configs.CLSA, {"strong": Views(count=1, local_count=2)}, "this method takes crops of one size here: local_count must be 0"),
        (configs.MSF, {"views": Views(count=2)}, "this method takes one crop here: count must be 1 and local_count 0"),
        (configs.MSF, {"target": Views(count=1, local_count=1)}, "this method takes one crop here: count must be 1 and local_count 0"),
        (configs.InstanceDiscrimination, {"views": Views(count=2)}, "this method takes one crop here"),
        (configs.MSF, {"neighbours": 9, "queue": 8}, "neighbours 9 are more than the queue of 8 holds"),
    ],
)
def test_what_a_method_cannot_learn_from_is_refused(member: Any, written: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        member(**written)


def test_more_dimensions_than_the_feature_has_are_refused() -> None:
    with pytest.raises(UserError, match=r"method\.dim 360 is more than the 32 dimensions of 'vit_tiny_patch16_224': set it lower, such as to 6"):
        DirectCLR(configs.DirectCLR(), TimmEncoder(ENCODERS["vit"]))


@pytest.mark.parametrize(
    ("side", "says"),
    [
        (10, "a local crop of 10 px is not a multiple of patch size 4: set method.strong.local_size, such as to 8"),
        (20, "larger than the encoder's image_size 16"),
    ],
)
def test_strong_crops_that_the_encoder_cannot_take_are_refused(side: int, says: str) -> None:
    encoder: Encoder = ENCODERS["vit"]
    strong = configs.CLSA().strong
    check_method(configs.CLSA(), encoder)
    with pytest.raises(Unfit, match=says):
        check_method(configs.CLSA(strong=strong.model_copy(update={"local_size": side})), encoder)
