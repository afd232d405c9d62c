"""SimMIM: its loss as loops have it, cells that are masked whole, and what of them goes in a ViT and a Swin."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from small_methods import KNOWN_INSIDE
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import SimMIM as SimMIMConfig
from schemas.stages import Pretrain
from schemas.views import Views
from ssl_tasks.data.cells import cell_side, finer, masked_cells
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.masked import masked_l1
from ssl_tasks.methods.masked.simmim import SimMIM
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.patches import unpatchify

ENCODERS = {name: KNOWN_INSIDE[name] for name in ("vit", "swin")}
either = pytest.mark.parametrize("name", ENCODERS)


def make(encoder: Encoder, **config: Any) -> SimMIM:
    torch.manual_seed(0)
    return SimMIM(SimMIMConfig(**config), TimmEncoder(encoder)).double().eval()


def seen(method: SimMIM, samples: int = 8) -> tuple[Tensor, Tensor]:
    """Views in float64, and their masks."""
    pictures = torch.randint(0, 256, (samples, method.encoder.config.channels, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    crops, cells = method.views(pictures, Draw(torch.Generator().manual_seed(0), samples))
    return crops.double(), cells


def over_pixels(cells: Tensor, side: int) -> Tensor:
    """A mask (B, cells) as one (B, 1, H, W) of pixels."""
    grid = math.isqrt(cells.shape[1])
    return cells.view(-1, 1, grid, grid).repeat_interleave(side, 2).repeat_interleave(side, 3)


# Loss


def test_the_loss_is_the_papers_mean_absolute_error_over_masked_pixels() -> None:
    rng = np.random.default_rng(0)
    predicted, pixels = rng.normal(size=(2, 3, 5, 12))
    mask = np.array([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=bool)
    errors = [abs(predicted[b, n, d] - pixels[b, n, d]) for b in range(3) for n in range(5) for d in range(12) if mask[b, n]]
    assert len(errors) == 6 * 12
    assert_allclose(masked_l1(*map(torch.from_numpy, (predicted, pixels, mask))), sum(errors) / len(errors), rtol=1e-12)


def test_what_is_said_of_visible_places_does_not_count() -> None:
    predicted, target = torch.randn(2, 3, 5, 12, dtype=torch.float64)
    mask = torch.tensor([[1, 0, 1, 0, 0]] * 3).bool()
    assert masked_l1(predicted + 100 * ~mask[..., None], target, mask) == masked_l1(predicted, target, mask)
    assert masked_l1(predicted + 100 * mask[..., None], target, mask) > 90


@either
def test_the_loss_of_the_method_is_over_the_pixels_of_masked_cells(name: str) -> None:
    method = make(ENCODERS[name], cell=8)
    images, cells = seen(method)
    told = unpatchify(method.predicted(images, cells), method.stride, images.shape[1])
    wrong = (told - images).abs()[over_pixels(cells, 8)]
    torch.testing.assert_close(method([images, cells], 0.5)["reconstruction"], wrong.mean(), rtol=1e-12, atol=0)


# Cells


@pytest.mark.parametrize(
    ("size", "stride", "side"), [(224, 16, 32), (224, 32, 32), (192, 16, 32), (192, 32, 32), (256, 16, 32), (32, 4, 4), (16, 4, 4), (100, 4, 20)]
)
def test_a_cell_is_the_papers_32_pixels_and_less_of_smaller_images(size: int, stride: int, side: int) -> None:
    assert cell_side(size, stride) == side


@pytest.mark.parametrize(("ratio", "cells", "masked"), [(0.6, 49, 30), (0.6, 36, 22), (0.01, 4, 1), (0.99, 4, 3)])
def test_six_in_ten_cells_are_masked_and_never_none_or_all(ratio: float, cells: int, masked: int) -> None:
    assert masked_cells(ratio, cells) == masked


def test_a_cell_is_masked_whole() -> None:
    method = make(Encoder(name="vit_tiny_patch16_224", width=32, depth=1, heads=2)).float()
    cells = seen(method)[1]
    assert cells.shape == (8, 49)
    assert set(cells.sum(1).tolist()) == {30}
    patches = finer(cells, 2)
    assert torch.equal(over_pixels(patches, 16), over_pixels(cells, 32))
    assert len({tuple(row) for row in cells.tolist()}) == 8


# What goes in


@either
def test_the_encoder_sees_every_visible_pixel_and_no_masked_one(name: str) -> None:
    method = make(ENCODERS[name])
    images, cells = seen(method)
    images.requires_grad_()
    torch.autograd.backward(method.predicted(images, cells).sin().sum())
    assert images.grad is not None
    assert torch.equal(images.grad != 0, ~over_pixels(cells, method.cell))


@either
def test_a_mask_token_stands_after_the_patch_embedding(name: str) -> None:
    """With a token that is what the embedding makes of black, masking is the same as painting cells black."""
    method = make(ENCODERS[name])
    images, cells = seen(method)
    embedded = method.encoder.backbone.patch_embed(torch.zeros_like(images[:1]))
    black = embedded.flatten(0, -2)[0].detach()
    painted = torch.where(over_pixels(cells, method.cell), 0, images)
    masked = method.encoder.tokens(images, finer(cells, method.cell // method.encoder.patch), black).patches
    torch.testing.assert_close(masked, method.encoder.tokens(painted).patches, rtol=1e-10, atol=1e-10)


@either
def test_pixels_are_told_as_by_a_convolution_of_one_and_a_pixel_shuffle(name: str) -> None:
    method = make(ENCODERS[name])
    images, cells = seen(method, 2)
    stride, channels, grid = method.stride, images.shape[1], 16 // method.stride
    features = method.encoder.tokens(images, finer(cells, method.cell // method.encoder.patch), method.mask_token).patches
    maps = features.mT.reshape(2, -1, grid, grid)
    order = torch.arange(stride * stride * channels).view(stride * stride, channels).T.flatten()
    shuffled = pixel_shuffle(conv2d(maps, method.output.weight[order][..., None, None], method.output.bias[order]), stride)
    torch.testing.assert_close(unpatchify(method.predicted(images, cells), stride, channels), shuffled, rtol=1e-10, atol=1e-10)


def test_a_swin_of_the_papers_size_can_be_trained() -> None:
    method = make(Encoder(name="swin_tiny_patch4_window7_224", image_size=192, options={"embed_dim": 24, "depths": [1, 1, 2, 1]})).float().train()
    images, cells = method.views(torch.randint(0, 256, (1, 3, 192, 192), dtype=torch.uint8), Draw(torch.Generator().manual_seed(0), 1))
    assert (method.cell, cells.sum().item()) == (32, 22)
    torch.autograd.backward(method([images, cells], 0.5)["reconstruction"])
    assert [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


# Bad input


@pytest.mark.parametrize(
    ("config", "said"), [({"mask_ratio": 1.0}, "less than 1"), ({"views": Views(count=2)}, "this method .* count must be 1"), ({"cell": 0}, "greater than 0")]
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SimMIMConfig(**config)


def test_an_encoder_that_cannot_mask_is_refused_at_load() -> None:
    with pytest.raises(ValidationError, match="simmim masks parts of the image inside the encoder, which is not known for 'convnext_tiny': take a ViT"):
        Pretrain.model_validate({"kind": "pretrain", "dataset": "d", "encoder": {"name": "convnext_tiny"}, "method": "simmim"})


@pytest.mark.parametrize("cell", [6, 12, 16])
def test_a_cell_that_does_not_cut_the_image_is_refused(cell: int) -> None:
    with pytest.raises(UserError, match=rf"^simmim: method.cell {cell} is not a multiple of 4 px.* set it to such as 4$"):
        make(ENCODERS["vit"], cell=cell)


def test_an_image_of_a_single_place_is_refused() -> None:
    with pytest.raises(UserError, match=r"^simmim: encoder.image_size 32 cannot be cut in two or more parts of 32 px.* such as 64"):
        make(Encoder(name="swin_tiny_patch4_window7_224", image_size=32, options={"embed_dim": 24}))
