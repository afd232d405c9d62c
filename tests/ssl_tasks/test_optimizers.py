"""Optimizers: what they decay, what they leave alone, and that they are the ones that were asked for."""

import torch
from torch import nn

from schemas.training import SGD, AdamW
from ssl_tasks import optimizers


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2))


def test_weight_decay_spares_norms_and_biases() -> None:
    module = network()
    decayed, spared = optimizers.build(AdamW(weight_decay=0.1), module).param_groups
    assert [p is q for p, q in zip(decayed["params"], (module[0].weight, module[3].weight), strict=True)] == [True, True]
    assert decayed["weight_decay"] == 0.1
    assert len(spared["params"]) == 6
    assert spared["weight_decay"] == 0.0


def test_a_frozen_parameter_is_not_trained() -> None:
    module = network()
    module[0].requires_grad_(False)
    trained = {id(p) for group in optimizers.build(SGD(), module).param_groups for p in group["params"]}
    assert id(module[0].weight) not in trained
    assert id(module[3].weight) in trained


def test_one_step_of_sgd_is_its_formula() -> None:
    """w - lr * (g + decay * w) for a matrix, w - lr * g for a vector; the second step adds momentum times the first update."""
    module = nn.Linear(1, 1).double()
    nn.init.constant_(module.weight, 2.0)
    nn.init.constant_(module.bias, 3.0)
    optimizer = optimizers.build(SGD(learning_rate=0.5, weight_decay=0.1, momentum=0.9), module)
    optimizers.set_learning_rate(optimizer, 0.1)
    for weight, bias in ((2 - 0.1 * 1.2, 3 - 0.1 * 1.0), (1.88 - 0.1 * (0.9 * 1.2 + 1.188), 2.9 - 0.1 * 1.9)):
        module.weight.grad = torch.ones_like(module.weight)
        module.bias.grad = torch.ones_like(module.bias)
        optimizer.step()
        torch.testing.assert_close(module.weight.item(), weight)
        torch.testing.assert_close(module.bias.item(), bias)


def test_one_step_of_adamw_is_its_formula() -> None:
    """The first step moves by lr * sign(g), whatever the size of g, after the decay by lr * decay * w."""
    module = nn.Linear(1, 1).double()
    nn.init.constant_(module.weight, 2.0)
    nn.init.constant_(module.bias, 3.0)
    optimizer = optimizers.build(AdamW(learning_rate=0.1, weight_decay=0.5), module)
    module.weight.grad = torch.full_like(module.weight, 7.0)
    module.bias.grad = torch.full_like(module.bias, -7.0)
    optimizer.step()
    torch.testing.assert_close(module.weight.item(), 2.0 - 0.1 * 0.5 * 2.0 - 0.1, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(module.bias.item(), 3.0 + 0.1, rtol=1e-7, atol=1e-7)
