"""Uniform masking: as much is kept in every window, what is kept is a dense smaller image, and what of it the encoder sees."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_methods import KNOWN_INSIDE
from torch import Tensor, nn

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import UniformMasking as UniformMaskingConfig
from schemas.stages import Pretrain
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.losses.masked import standardised
from ssl_tasks.methods.masked.uniform_masking import UniformMasking
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.patches import patchify

TINY = KNOWN_INSIDE["swin"]
"""Of 16 px and a stride of 4: 8 x 8 patches of 2 px, of which 4 x 4 are kept."""
PAPERS = Encoder(name="swin_tiny_patch4_window7_224", options={"embed_dim": 24, "depths": [1, 1, 2, 2]})


def make(encoder: Encoder = TINY, **config: Any) -> UniformMasking:
    torch.manual_seed(0)
    small = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2, **config}
    return UniformMasking(UniformMaskingConfig(**small), TimmEncoder(encoder)).double().eval()


def seen(method: UniformMasking, samples: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Views in float64, which patches are kept, and which of these are masked."""
    pictures = torch.randint(0, 256, (1, method.encoder.config.channels, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    crops, kept, hidden = method.views(pictures.expand(samples, -1, -1, -1), Draw(torch.Generator().manual_seed(0), samples))
    return crops.double(), kept, hidden


def kept_map(kept: Tensor) -> Tensor:
    """True where a patch is kept, (B, grid, grid)."""
    side = 2 * math.isqrt(kept.shape[1])
    return torch.zeros(len(kept), side * side).scatter(1, kept, 1).bool().view(-1, side, side)


# What is kept


def in_windows(kept: Tensor, window: int) -> set[int]:
    """The numbers of patches that are kept in a window."""
    return set(kept.unfold(1, window, window).unfold(2, window, window).sum((-1, -2)).flatten().tolist())


@pytest.mark.parametrize("window", [2, 4, 8])
def test_every_window_has_as_many_visible_patches_where_masks_at_random_have_not(window: int) -> None:
    kept = kept_map(seen(make(), 50)[1])
    assert in_windows(kept, window) == {window * window // 4}
    at_random = ~random_masks(Draw(torch.Generator().manual_seed(0), 50), 8, torch.full((50,), 48)).view(-1, 8, 8)
    assert at_random.sum() == kept.sum()
    assert (len(in_windows(at_random, window)) > 1) == (window < 8)


def test_each_patch_of_four_is_kept_as_often_and_each_image_has_its_own() -> None:
    kept = kept_map(seen(make(), 2000)[1]).double()
    assert (kept.mean(0) - 0.25).abs().max() < 4.5 * math.sqrt(0.25 * 0.75 / 2000)
    assert len({tuple(row) for row in kept.flatten(1).tolist()}) == 2000


def test_each_process_has_its_rows_of_what_one_draws() -> None:
    method = make()
    pictures = torch.randint(0, 256, (8, 1, 20, 20), dtype=torch.uint8)
    whole = method.views(pictures, Draw(torch.Generator().manual_seed(0), 8))
    halves = [method.views(pictures[own], Draw(torch.Generator().manual_seed(0), 8, own)) for own in (slice(0, 3), slice(3, 8))]
    for one, parts in zip(whole, zip(*halves, strict=True), strict=True):
        assert torch.equal(torch.cat(parts), one)


def test_the_smaller_image_is_the_kept_patches_put_together() -> None:
    method = make()
    images, kept, _ = seen(method)
    smaller = method.smaller(images, kept)
    assert smaller.shape == (8, 1, 8, 8)
    for b in range(8):
        for n, patch in enumerate(kept[b].tolist()):
            row, column = patch // 8, patch % 8
            assert (row // 2, column // 2) == (n // 4, n % 4)
            cut = images[b, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(smaller[b, :, 2 * (n // 4) : 2 * (n // 4) + 2, 2 * (n % 4) : 2 * (n % 4) + 2], cut)


def test_patches_of_the_smaller_image_are_embedded_as_those_of_the_whole_one() -> None:
    method = make()
    images, kept, _ = seen(method)
    embed = method.encoder.backbone.patch_embed
    whole = embed(images).flatten(1, 2)
    expected = whole.gather(1, kept[..., None].expand(-1, -1, whole.shape[2]))
    torch.testing.assert_close(embed(method.smaller(images, kept)).flatten(1, 2), expected, rtol=1e-12, atol=1e-12)


# What goes in


def test_the_encoder_sees_kept_patches_but_neither_those_left_out_nor_those_masked() -> None:
    method = make()
    images, kept, hidden = seen(method)
    assert hidden.sum(1).tolist() == [4] * 8
    images.requires_grad_()
    torch.autograd.backward(method.predicted(images, kept, hidden).sin().sum())
    assert images.grad is not None
    visible = kept_map(kept).flatten(1).scatter(1, kept, ~hidden).view(-1, 1, 8, 8)
    assert visible.sum(dim=(1, 2, 3)).tolist() == [12] * 8
    assert torch.equal(images.grad != 0, visible.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_the_loss_is_over_what_was_left_out_with_pixels_normalised() -> None:
    for normalise in (True, False):
        method = make(normalise_target=normalise)
        images, kept, hidden = seen(method)
        target = patchify(images, 2)
        errors = (method.predicted(images, kept, hidden) - (standardised(target) if normalise else target)).square()
        left_out = ~kept_map(kept).flatten(1)
        assert left_out.sum(1).tolist() == [48] * 8
        torch.testing.assert_close(method([images, kept, hidden], 0.5)["reconstruction"], errors[left_out].mean(), rtol=1e-12, atol=0)


class Remembering(nn.Module):
    """In the decoder's place: what it would get."""

    def forward(self, tokens: Tensor, kept: Tensor) -> Tensor:
        self.tokens = tokens
        return tokens


def test_each_place_of_the_last_map_is_told_apart_in_its_four_patches() -> None:
    method = make(decoder_width=8)
    images, kept, hidden = seen(method)
    method.expand = nn.Identity()  # type: ignore[assignment]  # 32 numbers a place: 8 of each patch
    decoder = Remembering()
    method.decoder = decoder  # type: ignore[assignment]
    method.predicted(images, kept, hidden)
    places = method.encoder.tokens(method.smaller(images, kept), hidden, method.mask_token).patches
    for n in range(16):
        row, column = n // 4, n % 4
        part = 2 * (row % 2) + column % 2
        assert torch.equal(decoder.tokens[:, n], places[:, 2 * (row // 2) + column // 2, 8 * part : 8 * part + 8])


@pytest.mark.parametrize(("size", "patches", "masked"), [(224, 49, 12), (256, 64, 16)])
def test_the_papers_patches_of_16_px_and_also_those_of_224_px(size: int, patches: int, masked: int) -> None:
    method = make(PAPERS.model_copy(update={"image_size": size})).float()
    images, kept, hidden = method.views(torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8), Draw(torch.Generator().manual_seed(0), 1))
    assert (method.patch, kept.shape[1], hidden.sum().item()) == (16, patches, masked)
    assert method.smaller(images, kept).shape == (1, 3, size // 2, size // 2)
    assert method.predicted(images, kept, hidden).shape == (1, 4 * patches, 3 * 16 * 16)


def test_the_exported_encoder_is_of_the_whole_image() -> None:
    """Its windows and positions are those of a Swin that was made for `image_size`, and a pass of smaller images leaves them so."""
    method = make(PAPERS)
    fresh = make(PAPERS)
    images, kept, hidden = method.views(torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8), Draw(torch.Generator().manual_seed(0), 1))
    torch.autograd.backward(method([images.double(), kept, hidden], 0.5)["reconstruction"])
    exported = method.exported()
    assert torch.equal(exported(images.double()), fresh.exported()(images.double()))
    assert {name: value.shape for name, value in exported.state_dict().items()} == {name: value.shape for name, value in fresh.encoder.state_dict().items()}


# Bad input


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"visible_mask_ratio": 1.0}, "less than 1"),
        ({"views": Views(count=2)}, "this method .* count must be 1"),
        ({"decoder_width": 30, "decoder_heads": 4}, "decoder_width 30 is not a multiple of decoder_heads 4"),
        ({"decoder_width": 6, "decoder_heads": 3}, "decoder_width 6 is not a multiple of 4"),
    ],
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        UniformMaskingConfig(**config)


@pytest.mark.parametrize("name", ["resnet18", "vit_small_patch16_224", "swinv2_tiny_window8_256"])
def test_an_encoder_that_is_no_swin_is_refused_at_load(name: str) -> None:
    said = f"uniform_masking masks parts of the image inside the encoder, which is not known for '{name}': take a Swin, such as swin_tiny"
    encoder = {"name": name, "image_size": 256 if "v2" in name else 224}
    with pytest.raises(ValidationError, match=said):
        Pretrain.model_validate({"kind": "pretrain", "dataset": "d", "encoder": encoder, "method": "uniform_masking"})


@pytest.mark.parametrize(("size", "near"), [(32, 64), (48, 64), (100, 96)])
def test_an_image_that_is_no_whole_number_of_patch_pairs_is_refused(size: int, near: int) -> None:
    said = f"^uniform_masking: encoder.image_size {size} cannot be cut in two or more parts of 32 px along a side, two patches wide: .* such as {near},"
    with pytest.raises(UserError, match=said):
        make(PAPERS.model_copy(update={"image_size": size}))
