"""The masked autoencoder of ConvNeXt V2: convolutions that are sparse indeed, of which nothing masked leaks, and what its decoder gets."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError
from small_methods import KNOWN_INSIDE
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import FCMAE as FCMAEConfig
from schemas.stages import Pretrain
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.masked import masked_mse, standardised
from ssl_tasks.methods.masked.fcmae import FCMAE
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.patches import patchify

TINY = KNOWN_INSIDE["convnextv2"]
LARGER = TINY.model_copy(update={"image_size": 32})
"""16 parts of 8 px."""
either_layout = pytest.mark.parametrize("conv_mlp", [False, True])
"""Channels last or second inside of blocks."""
Place = tuple[int, int]
Sparse = dict[Place, NDArray[np.float64]]
"""A sparse map: the vector of each place that is there."""


def make(encoder: Encoder = LARGER, **config: Any) -> FCMAE:
    """With response normalisations and biases that do something, as they do after some training."""
    torch.manual_seed(0)
    method = FCMAE(FCMAEConfig(decoder_width=16, **config), TimmEncoder(encoder)).double().eval()
    for parameter in method.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return method


def seen(method: FCMAE, samples: int = 4) -> tuple[Tensor, Tensor]:
    """Views in float64, and their masks."""
    pictures = torch.randint(0, 256, (samples, method.encoder.config.channels, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    crops, mask = method.views(pictures, Draw(torch.Generator().manual_seed(0), samples))
    return crops.double(), mask


def over_pixels(mask: Tensor, side: int = 8) -> Tensor:
    """A mask (B, N) of parts as one (B, 1, H, W) of pixels."""
    grid = math.isqrt(mask.shape[1])
    return mask.view(-1, 1, grid, grid).repeat_interleave(side, 2).repeat_interleave(side, 3)


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


# Sparse convolutions


def weights(layer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def normed(layer: Any, places: Sparse) -> Sparse:
    weight, bias = weights(layer)
    return {place: weight * (x - x.mean()) / np.sqrt(x.var() + layer.eps) + bias for place, x in places.items()}


def block(layer: Any, places: Sparse) -> Sparse:
    """A block of ConvNeXt V2, whose convolution and response normalisation know no places but those."""
    (depthwise, bias), x = weights(layer.conv_dw), {}
    for row, column in places:
        near = ((i, j) for i in range(7) for j in range(7) if (row + i - 3, column + j - 3) in places)
        x[row, column] = bias + sum(depthwise[:, 0, i, j] * places[row + i - 3, column + j - 3] for i, j in near)
    (first, first_bias), (second, second_bias) = ((matrix.reshape(len(bias), -1), bias) for matrix, bias in map(weights, (layer.mlp.fc1, layer.mlp.fc2)))
    wide = {place: first @ v + first_bias for place, v in normed(layer.norm, x).items()}
    wide = {place: v * np.array([0.5 * (1 + math.erf(each / math.sqrt(2))) for each in v]) for place, v in wide.items()}
    lengths = np.sqrt(sum(v**2 for v in wide.values()))
    gain, offset = weights(layer.mlp.grn)
    wide = {place: v + gain * v * lengths / (lengths.mean() + 1e-6) + offset for place, v in wide.items()}
    return {place: places[place] + second @ v + second_bias for place, v in wide.items()}


def by_places(backbone: Any, image: NDArray[np.float64], parts: list[Place]) -> Sparse:
    """The last map of an image (C, H, W) of which only some parts of 8 px are there, place by place."""
    stem, bias = weights(backbone.stem[0])
    there = [(8 * row + i, 8 * column + j) for row, column in parts for i in range(8) for j in range(8)]
    x = normed(backbone.stem[1], {place: stem[:, :, 0, 0] @ image[:, place[0], place[1]] + bias for place in there})
    for stage in backbone.stages:
        if not isinstance(stage.downsample, nn.Identity):
            x, (halving, bias) = normed(stage.downsample[0], x), weights(stage.downsample[1])
            whole = {(row // 2, column // 2) for row, column in x}
            x = {(r, c): bias + sum(halving[:, :, i, j] @ x[2 * r + i, 2 * c + j] for i in (0, 1) for j in (0, 1)) for r, c in whole}
        for each in stage.blocks:
            x = block(each, x)
    return x


@either_layout
def test_features_are_those_of_convolutions_that_know_no_masked_place(conv_mlp: bool) -> None:
    method = make(LARGER.model_copy(update={"options": {**LARGER.options, "conv_mlp": conv_mlp}}))
    images, mask = seen(method, 1)
    parts = [(n // 4, n % 4) for n in range(16) if not mask[0, n]]
    assert len(parts) == 6
    expected = by_places(method.encoder.backbone, images[0].numpy(), parts)
    found = method.encoder.tokens(images, mask).patches[0].detach()
    assert sorted(expected) == sorted(parts)
    for (row, column), vector in expected.items():
        assert_allclose(found[4 * row + column], vector, rtol=1e-8, atol=1e-9)
    assert not found[mask[0]].any()


@pytest.mark.parametrize("options", [{}, {"stem_type": "overlap_act", "output_stride": 8}])
def test_what_is_masked_changes_no_visible_feature_and_without_the_masking_it_does(options: dict[str, Any]) -> None:
    method = make(LARGER.model_copy(update={"options": {**LARGER.options, **options}}))
    images, mask = seen(method)
    altered = torch.where(over_pixels(mask), torch.randn_like(images), images)
    assert torch.equal(method.encoder.tokens(altered, mask).patches, method.encoder.tokens(images, mask).patches)
    plain, other = method.encoder.tokens(images).patches, method.encoder.tokens(altered).patches
    assert not (plain == other).all(-1)[~mask].any()


@either_layout
def test_a_gap_is_no_black_part_of_the_image(conv_mlp: bool) -> None:
    """Painted black, a masked part would still speak through biases of convolutions, and in response normalisations."""
    method = make(LARGER.model_copy(update={"options": {**LARGER.options, "conv_mlp": conv_mlp}}))
    images, mask = seen(method)
    black = method.encoder.tokens(torch.where(over_pixels(mask), 0, images)).patches
    assert not torch.isclose(black, method.encoder.tokens(images, mask).patches).all(-1)[~mask].any()


def test_with_nothing_masked_it_is_the_plain_encoder() -> None:
    method = make()
    images, mask = seen(method)
    assert torch.equal(method.encoder.tokens(images, torch.zeros_like(mask)).patches, method.encoder.tokens(images).patches)


def test_the_encoder_is_plain_outside_of_a_pass_and_after_one_that_fails() -> None:
    method = make()
    images, mask = seen(method)
    plain = TimmEncoder(LARGER).double().eval()
    plain.load_state_dict(method.encoder.state_dict())
    torch.autograd.backward(method([images, mask], 0.5)["reconstruction"])
    with pytest.raises(RuntimeError):
        method.encoder.tokens(images[:, :, :, :24], mask)
    assert hooks(method) == hooks(plain) == 0
    assert torch.equal(method.exported()(images), plain(images))


def test_blocks_that_are_computed_again_are_sparse_again() -> None:
    gradients = []
    for checkpointing in (False, True):
        method = make().train()
        method.encoder.memory(pieces=2 if checkpointing else 1, checkpointing=checkpointing)
        torch.autograd.backward(method([*seen(method)], 0.5)["reconstruction"])
        gradients.append([p.grad for p in method.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-9, atol=1e-12)


# Autoencoder


def test_the_loss_is_that_of_masked_parts_with_pixels_normalised() -> None:
    for normalise in (True, False):
        method = make(normalise_target=normalise)
        images, mask = seen(method)
        target = patchify(images, 8)
        expected = masked_mse(method.predicted(images, mask), standardised(target) if normalise else target, mask)
        assert method([images, mask], 0.5) == {"reconstruction": expected}


def test_the_decoder_sees_every_visible_pixel_and_no_masked_one() -> None:
    method = make()
    images, mask = seen(method)
    images.requires_grad_()
    torch.autograd.backward(method.predicted(images, mask)[mask].sin().sum())
    assert images.grad is not None
    assert torch.equal(images.grad != 0, ~over_pixels(mask))


def test_a_mask_token_stands_in_each_gap() -> None:
    method = make()
    images, mask = seen(method)
    method.decoder = nn.Sequential()
    told = method.predicted(images, mask)
    torch.testing.assert_close(told[mask], method.output(method.mask_token).expand_as(told[mask]), rtol=1e-12, atol=1e-12)
    visible = method.encoder.tokens(images, mask).patches[~mask]
    torch.testing.assert_close(told[~mask], method.output(method.embed(visible)), rtol=1e-12, atol=1e-12)


def test_of_the_papers_49_parts_30_are_masked() -> None:
    method = make(Encoder(name="convnextv2_atto", options={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 16]})).float()
    images, mask = method.views(torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8), Draw(torch.Generator().manual_seed(0), 4))
    assert mask.shape == (4, 49)
    assert mask.sum(1).tolist() == [30] * 4
    assert len({tuple(row) for row in mask.tolist()}) == 4
    assert method.predicted(images, mask).shape == (4, 49, 3 * 32 * 32)


def test_the_papers_decoder_is_one_block_512_wide() -> None:
    config = FCMAEConfig()
    assert (config.mask_ratio, config.decoder_width, config.decoder_depth) == (0.6, 512, 1)
    (block,) = FCMAE(config, TimmEncoder(TINY)).decoder
    assert isinstance(block, ConvNeXtBlock)
    assert block.conv_dw.weight.shape == (512, 1, 7, 7)


# Bad input


@pytest.mark.parametrize(("config", "said"), [({"mask_ratio": 1.0}, "less than 1"), ({"views": Views(count=2)}, "this method .* count must be 1")])
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        FCMAEConfig(**config)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "vit_small_patch16_224"])
def test_an_encoder_that_is_no_convnext_v2_is_refused_at_load(name: str) -> None:
    said = f"fcmae masks parts of the image inside the encoder, which is not known for '{name}': take a ConvNeXt V2, such as convnextv2_atto"
    with pytest.raises(ValidationError, match=said):
        Pretrain.model_validate({"kind": "pretrain", "dataset": "d", "encoder": {"name": name}, "method": "fcmae"})


@pytest.mark.parametrize(("size", "near"), [(8, 16), (20, 16), (36, 32)])
def test_an_image_that_is_no_whole_number_of_parts_is_refused(size: int, near: int) -> None:
    said = f"^fcmae: encoder.image_size {size} cannot be cut in two or more parts of 8 px along a side, the stride of the encoder: .* such as {near},"
    with pytest.raises(UserError, match=said):
        make(TINY.model_copy(update={"image_size": size}))
