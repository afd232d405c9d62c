"""MAE: the loss as loops have it, what the encoder sees and what it does not, and two processes as one."""

import math
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import MAE as MAEConfig
from schemas.stages import Pretrain
from schemas.views import Views
from ssl_tasks import distributed
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.masked import masked_mse, standardised
from ssl_tasks.methods.masked.mae import MAE
from ssl_tasks.nn.decoder import PatchDecoder
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.patches import patchify, unpatchify

TINY: dict[str, Any] = {"name": "vit_tiny_patch16_224", "image_size": 16, "patch_size": 4, "width": 32, "depth": 2, "heads": 2, "channels": 1}
SMALL: dict[str, Any] = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}
BATCH, STEPS = 8, 3


def make(encoder: dict[str, Any] | None = None, **config: Any) -> MAE:
    torch.manual_seed(0)
    return MAE(MAEConfig(**{**SMALL, **config}), TimmEncoder(Encoder(**{**TINY, **(encoder or {})}))).double()


def draw(samples: int = BATCH, own: slice = slice(None), seed: int = 0) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), samples, own)


def pictures(samples: int = BATCH, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (samples, channels, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def seen(method: MAE) -> tuple[Tensor, Tensor]:
    """Views in float64, and their masks."""
    crops, mask = method.views(pictures(), draw())
    return crops.double(), mask


def over_pixels(mask: Tensor, side: int = 4) -> Tensor:
    """A mask (B, N) of patches as one (B, 1, H, W) of pixels."""
    grid = math.isqrt(mask.shape[1])
    return mask.view(-1, 1, grid, grid).repeat_interleave(side, 2).repeat_interleave(side, 3)


# Loss


def by_loops(predicted: NDArray[np.float64], pixels: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """The mean squared error over masked patches, each normalised by its own pixels; https://arxiv.org/abs/2111.06377, section 3."""
    errors: list[float] = []
    for b, n in np.argwhere(mask):
        x = pixels[b, n]
        mean = sum(x) / len(x)
        variance = sum((value - mean) ** 2 for value in x) / (len(x) - 1)
        for said, value in zip(predicted[b, n], x, strict=True):
            errors.append(float((said - (value - mean) / math.sqrt(variance + 1e-6)) ** 2))
    return sum(errors) / len(errors)


def test_the_loss_is_the_papers_over_masked_patches() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, pixels = torch.randn(2, 3, 5, 12, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]).bool()
    expected = by_loops(predicted.numpy(), pixels.numpy(), mask.numpy())
    assert_allclose(masked_mse(predicted, standardised(pixels), mask), expected, rtol=1e-12)


def test_what_is_said_of_visible_patches_does_not_count() -> None:
    predicted, target = torch.randn(2, 3, 5, 12, dtype=torch.float64)
    mask = torch.tensor([[1, 0, 1, 0, 0]] * 3).bool()
    loss = masked_mse(predicted, target, mask)
    assert masked_mse(predicted + 100 * ~mask[..., None], target, mask) == loss
    assert masked_mse(predicted + 100 * mask[..., None], target, mask) > loss + 1000


def test_a_flat_patch_has_a_target_of_zero() -> None:
    assert torch.equal(standardised(torch.full((1, 1, 16), 0.5)), torch.zeros(1, 1, 16))


def test_the_loss_of_a_method_is_that_of_its_predictions() -> None:
    for normalise in (True, False):
        method = make(normalise_target=normalise)
        images, mask = seen(method)
        target = patchify(images, 4)
        expected = masked_mse(method.predicted(images, mask), standardised(target) if normalise else target, mask)
        assert method([images, mask], 0.5) == {"reconstruction": expected}


# Masks


def test_a_quarter_of_224_pixels_in_patches_of_16_is_seen() -> None:
    method = make({"image_size": 224, "patch_size": 16}).float()
    images, mask = method.views(pictures(2), draw(2))
    assert mask.shape == (2, 196)
    assert mask.sum(1).tolist() == [147, 147]
    lengths: list[int] = []
    method.encoder.backbone.norm.register_forward_pre_hook(lambda _, inputs: lengths.append(len(inputs[0])))
    method([images, mask], 0.5)
    assert lengths == [2 * (1 + 49)]


@pytest.mark.parametrize(("ratio", "masked"), [(0.75, 12), (0.5, 8), (0.9, 14), (0.01, 1), (0.99, 15)])
def test_some_patches_are_masked_and_some_are_not(ratio: float, masked: int) -> None:
    method = make(mask_ratio=ratio)
    images, mask = seen(method)
    assert set(mask.sum(1).tolist()) == {masked}
    assert method([images, mask], 0.5)["reconstruction"].isfinite()


def test_every_patch_is_masked_as_often_and_every_image_has_its_own_mask() -> None:
    method = make()
    masks = method.views(pictures(1).expand(4000, -1, -1, -1), draw(4000))[1]
    assert (masks.double().mean(0) - 0.75).abs().max() < 4.5 * math.sqrt(0.75 * 0.25 / 4000)
    assert len({tuple(row) for row in masks.tolist()}) > 1000  # of the 1820 that there are


def test_each_process_has_its_rows_of_the_masks_of_one() -> None:
    method = make()
    whole = method.views(pictures(), draw())
    halves = [method.views(pictures()[own], draw(own=own)) for own in (slice(0, 4), slice(4, 8))]
    assert torch.equal(torch.cat([half[1] for half in halves]), whole[1])


# What goes in


def test_neither_encoder_nor_decoder_sees_a_masked_pixel() -> None:
    method = make().eval()
    images, mask = seen(method)
    altered = torch.where(over_pixels(mask), images + 3, images)
    assert torch.equal(method.predicted(altered, mask), method.predicted(images, mask))
    assert not torch.equal(method([altered, mask], 0.5)["reconstruction"], method([images * 0.9, mask], 0.5)["reconstruction"])


def test_every_visible_pixel_is_seen_where_it_is() -> None:
    method = make().eval()
    images, mask = seen(method)
    images.requires_grad_()
    torch.autograd.backward(method.predicted(images, mask)[mask].sin().sum())
    assert images.grad is not None
    assert torch.equal((images.grad != 0), ~over_pixels(mask))
    swapped = images.detach().flip(3)
    assert not torch.allclose(method.predicted(swapped, mask.view(-1, 4, 4).flip(2).flatten(1)), method.predicted(images.detach(), mask))


def test_the_decoder_puts_each_token_in_its_place() -> None:
    """With no blocks' work and no positions, the output of a place is that of its token, or of the mask token."""
    decoder = PatchDecoder(8, prefix_tokens=2, grid=3, outputs=5, width=8, depth=1, heads=2).double()
    decoder.blocks = torch.nn.Sequential()
    decoder.positions.zero_()
    tokens, kept = torch.randn(2, 2 + 3, 8, dtype=torch.float64), torch.tensor([[0, 4, 8], [7, 2, 3]])
    said = decoder(tokens, kept)
    masked = decoder.output(decoder.norm(decoder.mask_token))
    for b in range(2):
        for n in range(9):
            own = kept[b].tolist()
            expected = decoder.output(decoder.norm(decoder.embed(tokens[b, 2 + own.index(n)]))) if n in own else masked
            torch.testing.assert_close(said[b, n], expected, rtol=1e-12, atol=1e-12)


def test_the_decoders_positions_are_sines_and_cosines_of_row_and_column() -> None:
    positions = PatchDecoder(8, 1, grid=3, outputs=5, width=16, depth=1, heads=2).positions
    for place in range(9):
        expected: list[list[float]] = []
        for wave in (math.sin, math.cos):
            for axis in (place // 3, place % 3):
                expected.append([wave(axis / 10000 ** (k / 4)) for k in range(4)])
        assert_allclose(sorted(positions[place].tolist()), sorted(np.concatenate(expected)), atol=1e-6)
    assert len({tuple(row) for row in positions.tolist()}) == 9


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_rope_mixed_224", "deit_tiny_distilled_patch16_224"])
def test_every_kind_of_vit_can_be_trained(name: str) -> None:
    method = make({"name": name})
    loss = method([*seen(method)], 0.5)["reconstruction"]
    torch.autograd.backward(loss)
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


def test_images_of_any_number_of_channels() -> None:
    method = make({"channels": 5})
    images, mask = torch.randn(2, 5, 16, 16, dtype=torch.float64), torch.arange(16).expand(2, -1) >= 4
    assert method.predicted(images, mask).shape == (2, 16, 5 * 16)
    assert method([images, mask], 0.5)["reconstruction"].isfinite()


# Patches


def test_patches_are_cut_row_by_row_and_put_together_again() -> None:
    images = torch.randn(2, 3, 8, 8)
    patches = patchify(images, 4)
    assert torch.equal(patches[1, 2], images[1, :, 4:, :4].permute(1, 2, 0).flatten())
    assert torch.equal(unpatchify(patches, 4, channels=3), images)


# Config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"decoder_width": 30, "decoder_heads": 4}, "decoder_width 30 is not a multiple of decoder_heads 4"),
        ({"decoder_width": 6, "decoder_heads": 3}, "decoder_width 6 is not a multiple of 4"),
        ({"mask_ratio": 1.0}, "less than 1"),
        ({"views": Views(count=2)}, "count must be 1"),
        ({"views": Views(count=1, local_count=1, local_size=8)}, "local_count 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MAEConfig(**config)


def test_convnets_have_no_patches_to_mask() -> None:
    with pytest.raises(ValidationError, match="mae masks patches, and 'resnet18' has none"):
        Pretrain.model_validate({"kind": "pretrain", "dataset": "d", "encoder": {"name": "resnet18"}, "method": "mae"})


def test_a_single_patch_cannot_be_masked() -> None:
    with pytest.raises(UserError, match=r"^mae: encoder.image_size 16 is a single patch"):
        make({"patch_size": 16})


# Processes


def trained(own: slice) -> dict[str, Any]:
    """Losses, first gradients and final state of a few steps on a share of every batch."""
    method = make()
    if parted := distributed.world_size() > 1:
        method.encoder.memory(pieces=2, checkpointing=True)
    model = DistributedDataParallel(method) if parted else method
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    losses: list[float] = []
    gradients: dict[str, Tensor] = {}
    for step in range(STEPS):
        images, mask = method.views(pictures()[own], draw(own=own, seed=step))
        loss = model([images.double(), mask], step / STEPS)["reconstruction"]
        losses.append(float(distributed.mean(loss.detach())))
        optimizer.zero_grad()
        loss.backward()
        gradients = gradients or {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
        optimizer.step()
    return {"losses": losses, "gradients": gradients, "state": {name: value.clone() for name, value in method.state_dict().items()}}


def work(rank: int, port: int, folder: Path) -> None:
    """One of the two processes, as torchrun would start it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    distributed.start()
    found = trained(slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
    distributed.stop()
    torch.save(found, folder / f"{rank}.pt")


def test_two_processes_in_pieces_train_as_one_in_a_whole(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, tmp_path), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]  # of torch
    alone = trained(slice(None))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone, rtol=1e-8, atol=1e-8)
