"""LoRA: products beside frozen layers, against the paper's formula; what they begin as, what is trained, and what is left after merging."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuned import DEEP, TRAIN, classification, config, random_checkpoint, tune
from test_distill import workspace
from tiny_training import CONV, Recorder
from torch import nn

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.finetuning import LoRA
from ssl_tasks import optimizers
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.finetune.lora import Adapted, adapt, merge
from ssl_tasks.nn.encoder import TimmEncoder

__all__ = ["workspace"]
ROTARY = Encoder(name="eva02_tiny_patch14_224", image_size=28, channels=1, width=16, depth=2, heads=2)
"""Its queries, keys and values have layers of their own, or biases of their own beside a joint layer; its MLP has a gate."""
EVERYTHING = LoRA(rank=2, modules=["q", "k", "v", "proj", "mlp"])


def moved(encoder: TimmEncoder) -> TimmEncoder:
    """The encoder with products that are not zero."""
    for part in encoder.modules():
        if isinstance(part, Adapted):
            for up in part.up:
                nn.init.normal_(up, std=0.1)
    return encoder


def encoder_with(config: LoRA, network: Encoder = DEEP) -> TimmEncoder:
    torch.manual_seed(0)
    encoder = TimmEncoder(network).eval()
    adapt(encoder, config)
    return encoder


def images(encoder: TimmEncoder) -> torch.Tensor:
    return torch.randn(3, 1, encoder.config.image_size, encoder.config.image_size, generator=torch.Generator().manual_seed(1))


def test_a_layer_adds_the_scaled_product_to_the_sections_that_are_adapted() -> None:
    """W x + b + alpha / r B A x for queries and values of a joint layer; the keys are as they were."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 12)
    adapted = Adapted(layer, [True, False, True], LoRA(rank=2, alpha=6.0))
    for up in adapted.up:
        nn.init.normal_(up)
    x = torch.randn(7, 5)
    numbers = {name: value.detach().double().numpy() for name, value in adapted.state_dict().items()}
    expected = x.double().numpy() @ numbers["layer.weight"].T + numbers["layer.bias"]
    expected[:, :4] += 6 / 2 * x.double().numpy() @ numbers["down.0"].T @ numbers["up.0"].T
    expected[:, 8:] += 6 / 2 * x.double().numpy() @ numbers["down.1"].T @ numbers["up.1"].T
    np.testing.assert_allclose(adapted(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", [DEEP, ROTARY], ids=["joint layer", "layers apart"])
def test_an_adapted_encoder_begins_as_it_was(network: Encoder) -> None:
    torch.manual_seed(0)
    before = TimmEncoder(network).eval()
    after = encoder_with(EVERYTHING, network)
    assert torch.equal(after(images(before)), before(images(before)))


@pytest.mark.parametrize("network", [DEEP, ROTARY], ids=["joint layer", "layers apart"])
def test_merging_leaves_a_plain_encoder_that_says_the_same(network: Encoder) -> None:
    encoder = moved(encoder_with(EVERYTHING, network))
    said = encoder(images(encoder)).detach()
    plain = TimmEncoder(network).eval()
    assert (plain.load_state_dict(deepcopy(encoder).state_dict(), strict=False)).missing_keys, "adapted, its layers have other names"
    merge(encoder)
    assert list(encoder.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(encoder.state_dict())
    assert (plain(images(encoder)) - said).abs().max() < 1e-6 * max(1.0, float(said.abs().max()))


def test_at_the_first_step_only_the_second_matrix_has_a_gradient() -> None:
    """B is zero, so that nothing of A reaches the output; said otherwise where LoRA is told of, but A waits a step."""
    method = classification(config(LoRA(rank=2)), DEEP)
    views, labels = [torch.randn(4, 1, 8, 8)], torch.arange(4)
    method(views, labels, 0.0)["cross_entropy"].backward()
    gradients = {name: p.grad.abs().max().item() for name, p in method.named_parameters() if p.grad is not None}
    assert {value for name, value in gradients.items() if ".down." in name} == {0.0}
    assert min(value for name, value in gradients.items() if ".up." in name) > 0


def test_products_and_head_are_trained_and_nothing_else() -> None:
    """Of a block of width 16: queries and values, each 2 x 16 down and 16 x 2 up."""
    method = classification(config(LoRA(rank=2)), DEEP)
    trained = {name: p.numel() for name, p in method.named_parameters() if p.requires_grad}
    adapters = {name: count for name, count in trained.items() if ".down." in name or ".up." in name}
    assert sum(adapters.values()) == 3 * 2 * 2 * (16 + 16)
    assert set(trained) - set(adapters) == {"model.head.0.weight", "model.head.0.bias"}


def test_first_matrices_are_drawn_with_a_standard_deviation_of_a_fiftieth() -> None:
    adapted = Adapted(nn.Linear(4000, 4), [True], LoRA(rank=8))
    assert adapted.down[0].std().item() == pytest.approx(0.02, rel=0.05)
    assert not adapted.up[0].any()


def test_products_learn_faster_than_the_head() -> None:
    method = classification(config(LoRA(rank=2, rate=3.0)), DEEP)
    groups = {id(p): group["share"] for group in optimizers.build(TRAIN, method).param_groups for p in group["params"]}
    shares = {name: groups[id(p)] for name, p in method.named_parameters() if p.requires_grad}
    assert {share for name, share in shares.items() if ".head." in name} == {1.0}
    assert {share for name, share in shares.items() if ".head." not in name} == {3.0}


@pytest.mark.parametrize(
    ("modules", "layers"),
    [
        (["q"], {"attn.qkv": [True, False, False]}),
        (["q", "v"], {"attn.qkv": [True, False, True]}),
        (["proj"], {"attn.proj": [True]}),
        (["mlp"], {"mlp.fc1": [True], "mlp.fc2": [True]}),
    ],
)
def test_only_the_named_layers_of_each_block_are_adapted(modules: list[Any], layers: dict[str, list[bool]]) -> None:
    encoder = encoder_with(LoRA(rank=2, modules=modules))
    for block in encoder.backbone.blocks:
        assert {name: part.sections for name, part in block.named_modules() if isinstance(part, Adapted)} == layers


def test_dropout_is_of_what_goes_into_the_products_and_of_training_alone() -> None:
    adapted = Adapted(nn.Linear(50, 4), [True], LoRA(rank=2, dropout=0.5))
    nn.init.normal_(adapted.up[0])
    x = torch.ones(1, 50)
    assert not torch.equal(adapted(x), adapted(x))
    assert torch.equal(adapted.eval()(x), adapted(x))
    assert torch.equal(adapted.train().layer(x), adapted.layer(x))


def test_the_artifact_is_a_plain_encoder_of_which_only_adapted_weights_differ(workspace: Path) -> None:
    before = random_checkpoint(workspace, DEEP)
    tracker = Recorder()
    artifact = tune(workspace, config(LoRA(rank=2)), tracker=tracker)
    after = load_encoder(artifact).state_dict()
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after[name])}
    assert changed == {f"backbone.blocks.{i}.attn.qkv.weight" for i in range(3)}
    for i in range(3):
        update = after[f"backbone.blocks.{i}.attn.qkv.weight"] - before.state_dict()[f"backbone.blocks.{i}.attn.qkv.weight"]
        assert not update[16:32].any(), "the keys are as they were"
        assert torch.linalg.matrix_rank(update[:16].double(), rtol=1e-3) <= 2
    assert artifact.metrics["parameters"] == sum(p.numel() for p in before.parameters())


def test_a_convnet_is_refused(workspace: Path) -> None:
    random_checkpoint(workspace, CONV)
    with pytest.raises(
        UserError, match="strategy lora adapts the blocks of a plain vision transformer, and 'resnetv2_18' has none: take unfreezing, lp_ft or full"
    ):
        tune(workspace, config(LoRA()))
