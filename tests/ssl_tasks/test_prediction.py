"""BYOL and SimSiam: losses against the papers' formulas, and the parts that keep them from collapsing, one by one."""

import math
from collections.abc import Callable

import pytest
import torch
from formulas import double
from numpy.testing import assert_allclose
from planted import centred_rank, learned, on_points, two_views
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from schemas.methods import BYOL as BYOLConfig
from schemas.methods import SimSiam as SimSiamConfig
from ssl_tasks.losses.feature import cosine_distance
from ssl_tasks.losses.prediction import byol, simsiam
from ssl_tasks.method import Method, Terms
from ssl_tasks.methods.self_distillation.byol import BYOL
from ssl_tasks.methods.self_distillation.simsiam import SimSiam


def two(*shape: int) -> tuple[Tensor, Tensor]:
    """Standard normal numbers, the same at each call."""
    first, second = torch.randn(2, *shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    return first, second


# Losses


def test_byol_is_the_squared_distance_of_unit_vectors() -> None:
    """Equation 2 of https://arxiv.org/abs/2006.07733, first as a distance and then as 2 - 2 cos."""
    prediction, target = (x.numpy() for x in two(6, 5))
    losses = []
    for p, z in zip(prediction, target, strict=True):
        p_bar, z_bar = p / math.sqrt(sum(p**2)), z / math.sqrt(sum(z**2))
        losses.append(sum((p_bar - z_bar) ** 2))
        assert_allclose(losses[-1], 2 - 2 * (p @ z) / math.sqrt((p @ p) * (z @ z)), rtol=1e-12)
    assert_allclose(byol(*two(6, 5)), sum(losses) / 6, rtol=1e-12)


def test_byol_worked_out_by_hand() -> None:
    assert_allclose(byol(double([[3, 4]]), double([[4, 3]])), 0.08, atol=1e-12)
    assert_allclose(byol(double([[1, 2]]), double([[-2, -4]])), 4, atol=1e-12)


def test_simsiam_is_the_negative_cosine_plus_one() -> None:
    """Equation 1 of https://arxiv.org/abs/2011.10566."""
    p, z = (x.numpy() for x in two(6, 5))
    paper = [-sum(p[i] / math.sqrt(sum(p[i] ** 2)) * z[i] / math.sqrt(sum(z[i] ** 2))) for i in range(6)]
    assert_allclose(simsiam(*two(6, 5)), 1 + sum(paper) / 6, rtol=1e-12)


@pytest.mark.parametrize("loss", [byol, simsiam])
def test_a_collapsed_batch_has_the_lowest_loss_there_is(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """SimSiam's as printed is -1, here 1 more: neither loss tells a collapse from success."""
    same = double([[0.3, -2.0, 1.0]]).expand(8, 3)
    assert_allclose(loss(same, 5 * same), 0, atol=1e-12)


def test_simsiams_gradient_is_the_formula_and_orthogonal_to_the_prediction() -> None:
    """Of half of the loss: -1/2 (z / (|p| |z|) - (p z) p / (|p|^3 |z|))."""
    (p,), (z,) = two(1, 5)
    p.requires_grad_()
    (simsiam(p[None], z[None]) / 2).backward()  # type: ignore[no-untyped-call]  # of torch
    assert p.grad is not None
    own = p.detach()
    lengths = own.norm() * z.norm()
    assert_allclose(p.grad, -0.5 * (z / lengths - (own @ z) * own / (own.norm() ** 2 * lengths)), rtol=1e-10)
    assert_allclose(p.grad @ own, 0, atol=1e-12)


@pytest.mark.parametrize("loss", [byol, simsiam])
def test_no_gradient_flows_into_what_is_predicted(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    p, z = (x.requires_grad_() for x in two(6, 5))
    loss(p, z).backward()  # type: ignore[no-untyped-call]  # of torch
    assert p.grad is not None
    assert z.grad is None


@pytest.mark.parametrize("loss", [byol, simsiam])
def test_losses_compute_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (x.to(torch.bfloat16) for x in two(16, 12))
    with torch.autocast("cpu", torch.bfloat16):
        computed = loss(a, b)
    assert computed.dtype == torch.float32
    assert computed == loss(a.float(), b.float())


# Methods


class LeakySimSiam(SimSiam):
    """SimSiam without stop-gradient."""

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        both = self.projector(self.encoder(torch.cat(views)))
        z, z_prime = both.chunk(2)
        p, p_prime = self.predictor(both).chunk(2)
        return {"simsiam": 1 - (cosine_similarity(p, z_prime) + cosine_similarity(p_prime, z)).mean() / 2}


def made_byol(momentum: float = 0.996) -> BYOL:
    method = on_points(BYOL, BYOLConfig(hidden=32, output=16, momentum=momentum))
    assert isinstance(method, BYOL)
    return method


def made_simsiam(kind: type[SimSiam] = SimSiam, bottleneck: int = 8) -> SimSiam:
    method = on_points(kind, SimSiamConfig(hidden=32, output=16, bottleneck=bottleneck))
    assert isinstance(method, SimSiam)
    return method


def views() -> list[Tensor]:
    return two_views(torch.Generator().manual_seed(0))


def gradients(method: Method, loss: Tensor) -> dict[str, Tensor]:
    method.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # of torch
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def test_byols_loss_is_that_of_both_directions() -> None:
    method, (x, x_prime) = made_byol().eval(), views()
    with torch.no_grad():
        prediction, prediction_prime = (method.predictor(method.projector(method.encoder(view))) for view in (x, x_prime))
        target, target_prime = method.target_projector(method.target_encoder(torch.cat([x, x_prime]))).chunk(2)  # its batch norms see both
        torch.testing.assert_close(method([x, x_prime], 0.5)["byol"], byol(prediction, target_prime) + byol(prediction_prime, target))
        assert not torch.isclose(byol(prediction, target_prime), byol(prediction_prime, target))


def test_simsiams_loss_is_the_mean_of_both_directions() -> None:
    method, (x, x_prime) = made_simsiam().eval(), views()
    with torch.no_grad():
        z, z_prime = (method.projector(method.encoder(view)) for view in (x, x_prime))
        expected = (simsiam(method.predictor(z), z_prime) + simsiam(method.predictor(z_prime), z)) / 2
        torch.testing.assert_close(method([x, x_prime], 0.5)["simsiam"], expected)


def test_simsiams_gradient_is_that_of_targets_that_are_constants() -> None:
    method = made_simsiam().double()
    both = [view.double() for view in views()]
    with torch.no_grad():
        z, z_prime = method.projector(method.encoder(torch.cat(both))).chunk(2)
    p, p_prime = method.predictor(method.projector(method.encoder(torch.cat(both)))).chunk(2)
    by_hand = gradients(method, (cosine_distance(p, z_prime) + cosine_distance(p_prime, z)) / 2)
    torch.testing.assert_close(gradients(method, method(both, 0.5)["simsiam"]), by_hand, rtol=1e-10, atol=1e-12)
    leaky = gradients(method, LeakySimSiam.forward(method, both, 0.5)["simsiam"])  # type: ignore[arg-type]  # of its parent's parts
    assert not torch.allclose(leaky["encoder.layers.0.weight"], by_hand["encoder.layers.0.weight"], rtol=0.01)


def test_no_gradient_reaches_byols_target() -> None:
    method = made_byol()
    learning = gradients(method, method(views(), 0.5)["byol"])
    assert {name.split(".")[0] for name in learning} == {"encoder", "projector", "predictor"}
    target = [*method.target_encoder.parameters(), *method.target_projector.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in target)
    assert not method.target_projector(method.target_encoder(views()[0])).requires_grad


def test_byols_target_starts_as_the_online_network_and_shares_no_memory() -> None:
    method = made_byol()
    pairs = [(method.target_encoder, method.encoder), (method.target_projector, method.projector)]
    for theirs, ours in ((t, o) for target, online in pairs for t, o in zip(target.parameters(), online.parameters(), strict=True)):
        assert torch.equal(theirs, ours)
        assert theirs.data_ptr() != ours.data_ptr()


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.996), (0.25, 0.99658579), (0.5, 0.998), (0.75, 0.99941421), (1.0, 1.0)])
def test_byols_target_follows_with_a_momentum_that_rises_to_one(progress: float, momentum: float) -> None:
    method = made_byol().double()
    with torch.no_grad():
        for online in (method.encoder, method.projector):
            for p in online.parameters():
                p.add_(1)
    before = {name: p.clone() for name, p in method.named_parameters()}
    method.after_step(progress)
    followed = 0
    for name, p in method.named_parameters():
        if name.startswith("target_"):
            source = before[name.removeprefix("target_").replace(".network", "")]
            torch.testing.assert_close(p, momentum * before[name] + (1 - momentum) * source, rtol=0, atol=1e-8)
            followed += 1
        else:
            assert torch.equal(p, before[name])
    assert followed == sum(name.startswith(("encoder.", "projector.")) for name in before)


def test_byols_target_has_no_predictor() -> None:
    """Online and target networks are the same at the start: only the predictor sets their outputs of one view apart."""
    method, x = made_byol().train(), views()[0]
    assert method([x, x], 0.0)["byol"] > 0.1
    method.predictor = nn.Identity()
    assert_allclose(method([x, x], 0.0)["byol"].item(), 0, atol=1e-5)


def test_simsiams_target_has_no_predictor() -> None:
    method, x = made_simsiam().eval(), views()[0]
    assert method([x, x], 0.0)["simsiam"] > 0.1
    method.predictor = nn.Identity()
    assert_allclose(method([x, x], 0.0)["simsiam"].item(), 0, atol=1e-5)


@pytest.mark.parametrize("config", [BYOLConfig, SimSiamConfig])
@pytest.mark.parametrize("part", ["predictor", "stop_gradient"])
def test_neither_predictor_nor_stop_gradient_can_be_switched_off(config: Callable[..., object], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        config(**{part: False})


@pytest.mark.parametrize("config", [BYOLConfig, SimSiamConfig])
def test_other_than_two_global_crops_are_refused(config: Callable[..., object]) -> None:
    with pytest.raises(ValidationError, match="two global crops"):
        config(views={"preset": "swav"})


def test_simsiam_has_the_papers_batch_norms() -> None:
    """On every layer of the projector, the last without gain and bias, and on the predictor's hidden layer alone (section 2)."""
    method = made_simsiam()
    norms = [[layer.affine for layer in network.modules() if isinstance(layer, nn.BatchNorm1d)] for network in (method.projector, method.predictor)]
    assert norms == [[True, True, False], [True]]
    assert isinstance(method.predictor, nn.Sequential)
    assert isinstance(method.predictor[-1], nn.Linear)


# Collapse


def without_predictor(method: SimSiam) -> SimSiam:
    method.predictor = nn.Identity()
    return method


def without_last_norm(method: SimSiam) -> SimSiam:
    method.projector = method.projector[:-1]
    return method


def spread_and_rank(method: SimSiam) -> tuple[float, float]:
    learned(method)
    seen = method.eval().monitored(two_views(torch.Generator().manual_seed(2)))
    return seen["embedding_std"], centred_rank(nn.Sequential(method.encoder, method.projector))


def test_simsiam_collapses_without_predictor_or_stop_gradient() -> None:
    """Seen where no batch norm ends the projector."""
    assert spread_and_rank(without_last_norm(made_simsiam()))[0] > 0.8
    assert spread_and_rank(without_last_norm(made_simsiam(LeakySimSiam)))[0] < 0.5
    assert spread_and_rank(without_last_norm(without_predictor(made_simsiam())))[0] < 0.5


def test_the_last_batch_norm_hides_a_collapse_from_all_but_the_rank() -> None:
    healthy, leaky = (spread_and_rank(made_simsiam(kind, bottleneck=4)) for kind in (SimSiam, LeakySimSiam))
    assert min(healthy[0], leaky[0]) > 0.8
    assert leaky[1] < 0.6 * healthy[1]


def test_byol_learns_without_becoming_constant() -> None:
    method = made_byol(momentum=0.99)
    losses = learned(method)
    assert losses[-1] < 0.2 * losses[0]
    assert method.eval().monitored(two_views(torch.Generator().manual_seed(2)))["embedding_std"] > 0.8
