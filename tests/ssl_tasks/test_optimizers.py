"""Optimizers: that they are the ones that were asked for, and which parameters learn at which rate and decay."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from small_methods import CASES, ENCODERS
from torch import nn

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.training import LARS, SGD, AdamW, Optimizer, Train
from ssl_tasks import optimizers
from ssl_tasks.nn.encoder import TimmEncoder


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2))


def built(config: Optimizer, module: nn.Module, **train: Any) -> torch.optim.Optimizer:
    """The optimizer at its peak rate."""
    settings = Train(optimizer=config, **train)
    optimizer = optimizers.build(settings, module)
    optimizers.set_rates(optimizer, config.learning_rate, config.weight_decay)
    return optimizer


def rates(module: nn.Module, **train: Any) -> dict[str, float]:
    """The learning rate of each trainable parameter, by name."""
    optimizer = built(AdamW(learning_rate=1e-3), module, **train)
    by_parameter = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_parameter[p] for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("config", [AdamW(weight_decay=0.1), SGD(weight_decay=0.1), LARS(weight_decay=0.1)], ids=lambda config: config.kind)
def test_weight_decay_spares_norms_and_biases(config: Optimizer) -> None:
    module = network()
    decayed, spared = built(config, module).param_groups
    assert [p is q for p, q in zip(decayed["params"], (module[0].weight, module[3].weight), strict=True)] == [True, True]
    assert decayed["weight_decay"] == 0.1
    assert len(spared["params"]) == 6
    assert spared["weight_decay"] == 0.0


def test_another_weight_decay_is_that_of_the_decayed_alone() -> None:
    optimizer = built(AdamW(weight_decay=0.1), network())
    optimizers.set_rates(optimizer, 0.5, 0.3)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.5, 0.3), (0.5, 0.0)]


def test_a_frozen_parameter_is_not_trained() -> None:
    module = network()
    module[0].requires_grad_(False)
    trained = {id(p) for group in built(SGD(), module).param_groups for p in group["params"]}
    assert id(module[0].weight) not in trained
    assert id(module[3].weight) in trained


def test_a_teacher_is_not_trained() -> None:
    method = CASES["dino-vit"].make()
    trained = {id(p) for group in built(AdamW(), method, layer_decay=0.5).param_groups for p in group["params"]}
    assert trained == {id(p) for name, p in method.named_parameters() if not name.startswith("teacher")}


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_are_its_formula(nesterov: bool) -> None:
    """v <- m v + g + decay w; w <- w - lr v, with Nesterov's momentum w <- w - lr (g + decay w + m v); no decay of a vector."""
    module = nn.Linear(1, 1).double()
    nn.init.constant_(module.weight, 2.0)
    nn.init.constant_(module.bias, 3.0)
    optimizer = built(SGD(learning_rate=0.1, weight_decay=0.1, momentum=0.9, nesterov=nesterov), module)
    expected, momenta = [2.0, 3.0], [0.0, 0.0]
    for _ in range(2):
        module.weight.grad, module.bias.grad = torch.ones_like(module.weight), torch.ones_like(module.bias)
        optimizer.step()
        for i, decay in enumerate((0.1, 0.0)):
            gradient = 1.0 + decay * expected[i]
            momenta[i] = 0.9 * momenta[i] + gradient
            expected[i] -= 0.1 * (gradient + 0.9 * momenta[i] if nesterov else momenta[i])
        assert [module.weight.item(), module.bias.item()] == pytest.approx(expected, rel=1e-12)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        SGD(momentum=0.0, nesterov=True)


def test_one_step_of_adamw_is_its_formula() -> None:
    """The first step moves by lr * sign(g), whatever the size of g, after the decay by lr * decay * w."""
    module = nn.Linear(1, 1).double()
    nn.init.constant_(module.weight, 2.0)
    nn.init.constant_(module.bias, 3.0)
    optimizer = built(AdamW(learning_rate=0.1, weight_decay=0.5), module)
    module.weight.grad = torch.full_like(module.weight, 7.0)
    module.bias.grad = torch.full_like(module.bias, -7.0)
    optimizer.step()
    torch.testing.assert_close(module.weight.item(), 2.0 - 0.1 * 0.5 * 2.0 - 0.1, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(module.bias.item(), 3.0 + 0.1, rtol=1e-7, atol=1e-7)


def test_lars_is_its_formula_over_several_steps_at_changing_rates() -> None:
    """https://arxiv.org/abs/1708.03888, algorithm 1, with the denominator and the place of the rate as the class says."""
    torch.manual_seed(0)
    module = network().double()
    nn.init.zeros_(module[3].get_parameter("weight"))  # a layer of no length steps as in SGD
    config = LARS(learning_rate=0.5, weight_decay=0.01, momentum=0.9, trust=0.02, bias_rate=0.1)
    optimizer = built(config, module)
    weights = {name: p.detach().numpy().copy() for name, p in module.named_parameters()}
    momenta = {name: np.zeros_like(w) for name, w in weights.items()}
    rng = np.random.default_rng(0)
    for rate in (0.5, 0.3, 0.1):
        gradients: dict[str, NDArray[np.float64]] = {name: rng.normal(size=w.shape) for name, w in weights.items()}
        for name, p in module.named_parameters():
            p.grad = torch.from_numpy(gradients[name])
        optimizers.set_rates(optimizer, rate, config.weight_decay)
        optimizer.step()
        for name, w in weights.items():
            update, own_rate = gradients[name], rate * 0.1
            if w.ndim > 1:
                update, own_rate = update + 0.01 * w, rate
                if np.linalg.norm(w) > 0:
                    update = update * 0.02 * np.linalg.norm(w) / np.linalg.norm(update)
            momenta[name] = 0.9 * momenta[name] + update
            weights[name] = w - own_rate * momenta[name]
        for name, p in module.named_parameters():
            np.testing.assert_allclose(p.detach().numpy(), weights[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("config", [AdamW(), SGD(), LARS()], ids=lambda config: config.kind)
def test_a_layer_may_be_held_still_at_first(config: Optimizer) -> None:
    """As DINO's last layer is."""
    module = network()
    first, last = module[0].get_parameter("weight"), module[3].get_parameter("weight")
    optimizer, before = built(config, module), last.detach().clone()
    first.grad = torch.ones_like(first)
    optimizer.step()
    assert torch.equal(last, before)
    last.grad = torch.ones_like(last)
    optimizer.step()
    assert not torch.equal(last, before)


def test_layer_decay_takes_its_factor_from_each_block_to_the_one_below() -> None:
    """1e-3 and 0.75: the head has 1e-3, blocks from the top 7.5e-4, 5.625e-4, 4.21875e-4 and so on; the twelfth 3.167635e-5."""
    encoder = TimmEncoder(ENCODERS["vit"].model_copy(update={"depth": 12}))
    method = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(32, 4)})
    found = rates(method, layer_decay=0.75)
    assert found["head.weight"] == found["head.bias"] == 1e-3
    blocks = [found[f"encoder.backbone.blocks.{i}.attn.qkv.weight"] for i in reversed(range(12))]
    assert blocks[:3] == pytest.approx([7.5e-4, 5.625e-4, 4.21875e-4])
    assert blocks[11] == pytest.approx(3.167635e-5, rel=1e-6)
    below = [found[f"encoder.backbone.{name}"] for name in ("patch_embed.proj.weight", "cls_token", "pos_embed")]
    assert below == pytest.approx([1e-3 * 0.75**13] * 3)


def test_layer_decay_numbers_the_blocks_of_a_convnet() -> None:
    found = rates(nn.ModuleDict({"encoder": TimmEncoder(ENCODERS["convnet"])}), layer_decay=0.5)
    of = {name.split(".")[3] if "stages" in name else "stem": rate for name, rate in found.items() if "conv" in name}
    assert of == {"1": 0.5e-3, "0": 0.25e-3, "stem": 0.125e-3}


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224", "vit_base_patch16_clip_224", "mobilenetv3_small_050"]
)
def test_no_layer_of_a_common_network_learns_faster_than_one_above_it(name: str) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(Encoder(name=name))
    found = [rate for key, rate in rates(nn.ModuleDict({"encoder": encoder}), layer_decay=0.9).items() if "norm" not in key]
    assert 0 < min(found) < max(found) <= 1e-3
    assert found[0] == min(found)


def test_a_network_whose_layers_nobody_numbered_is_refused() -> None:
    encoder = TimmEncoder(ENCODERS["convnet"])
    encoder.backbone = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"train\.layer_decay needs a network whose layers timm numbers"):
        rates(nn.ModuleDict({"encoder": encoder}), layer_decay=0.9)


def test_the_patch_embedding_has_a_rate_of_its_own() -> None:
    """0.2 of its layer's, as DINOv2; https://arxiv.org/abs/2304.07193, appendix B.1."""
    found = rates(CASES["simclr-vit"].make(), layer_decay=0.5, patch_embed_rate=0.2)
    assert found["encoder.backbone.patch_embed.proj.weight"] == pytest.approx(1e-3 * 0.5**2 * 0.2)
    assert found["encoder.backbone.pos_embed"] == pytest.approx(1e-3 * 0.5**2)
    assert found["projector.0.weight"] == 1e-3
