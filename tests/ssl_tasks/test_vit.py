"""Tokens of timm's vision transformers: as timm has them, packed as if apart, and with stochastic depth that saves what it drops."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.layers.drop import DropPath
from torch import Tensor

from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.nn import packed, vit
from ssl_tasks.nn.encoder import TimmEncoder

SMALL: dict[str, Any] = {"image_size": 16, "patch_size": 4, "width": 32, "depth": 2, "heads": 2, "channels": 1}


def small(name: str, **options: Any) -> Encoder:
    return Encoder(**SMALL, name=name, options=options)


KINDS = {
    "ViT": small("vit_tiny_patch16_224"),
    "registers": small("vit_tiny_patch16_224", reg_tokens=3),
    "registers without positions": small("vit_small_patch16_224", reg_tokens=2, no_embed_class=True),
    "LayerScale and query norms": small("vit_tiny_patch16_224", init_values=0.1, qk_norm=True),
    "norms inside": small("vit_tiny_patch16_224", scale_attn_norm=True, scale_mlp_norm=True),
    "CLIP, a norm in front": small("vit_base_patch16_clip_224"),
    "average pooling and a norm after it": small("vit_medium_patch16_gap_240", global_pool="avg", class_token=False, fc_norm=True),
    "attention pooling": small("vit_base_patch16_siglip_224"),
    "distilled DeiT": small("deit_tiny_distilled_patch16_224"),
    "DeiT 3": small("deit3_small_patch16_224"),
    "SwiGLU": small("vit_giant_patch14_reg4_dinov2", mlp_ratio=2.0),
    "AIMv2": small("aimv2_large_patch14_224"),
    "EVA": small("eva_giant_patch14_224"),
    "EVA-02": small("eva02_tiny_patch14_224"),
    "EVA-02, norms inside": small("eva02_base_patch16_clip_224"),
    "DINOv3": small("vit_small_patch16_dinov3", init_values=0.5),
    "DINOv3, gated MLP": small("vit_small_plus_patch16_dinov3_qkvb", init_values=0.5),
    "rotary": small("vit_small_patch16_rope_224"),
    "rotary and learned": small("vit_small_patch16_rope_ape_224"),
    "rotary, mixed": small("vit_small_patch16_rope_mixed_224"),
    "rotary, mixed, registers": small("vit_small_patch16_rope_mixed_ape_224", num_reg_tokens=2),
    "fewer keys than queries": small("vit_base_patch16_sapiens2", num_kv_heads=1),
    "norms after": small("vit_base_patch16_rpn_224"),
    "parallel": small("vit_base_patch16_xp_224"),
}
every_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)


def make(config: Encoder) -> TimmEncoder:
    torch.manual_seed(0)
    encoder = TimmEncoder(config).double()
    for p in encoder.parameters():  # far from the start, where some parts do nothing yet
        p.data += 0.05 * torch.randn_like(p)
    return encoder


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@every_kind
@pytest.mark.parametrize("size", [16, 8, 20])
def test_tokens_are_those_of_timm_at_every_size(config: Encoder, size: int) -> None:
    encoder, x = make(config).eval(), image(2, 1, size, size)
    pooled, patches = encoder.tokens(x)
    theirs = encoder.backbone.forward_features(x)
    torch.testing.assert_close(pooled, encoder.backbone(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(patches, theirs[:, encoder.prefix_tokens :], rtol=1e-9, atol=1e-9)
    assert patches.shape == (2, encoder.grid(size) ** 2, encoder.width)


def outcome(encoder: TimmEncoder, compute: Callable[[], list[vit.Features]]) -> dict[str, Any]:
    """Features, and the gradients of a function of them."""
    encoder.zero_grad()
    torch.manual_seed(0)
    found = compute()
    scalar = torch.stack([t.pow(3).mean() for features in found for t in features]).sum()
    torch.autograd.backward(scalar)
    return {"features": [t.detach() for features in found for t in features], "gradients": {n: p.grad for n, p in encoder.named_parameters()}}


@every_kind
def test_one_pass_over_crops_of_several_sizes_is_as_many_passes(config: Encoder) -> None:
    encoder, token = make(config).train(), image(32).requires_grad_()
    crops = [image(3, 1, 16, 16), image(5, 1, 8, 8), image(2, 1, 16, 16)]
    masks = [image(3, 16) > 0, None, image(2, 16) > 1]
    together = outcome(encoder, lambda: encoder.multi_crop(crops, masks, token))
    of_token, token.grad = token.grad, None
    apart = outcome(encoder, lambda: [encoder.tokens(crop, mask, token) for crop, mask in zip(crops, masks, strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(of_token, token.grad, rtol=1e-9, atol=1e-9)


def test_all_kinds_but_two_are_packed() -> None:
    unknown = [name for name, config in KINDS.items() if not all(map(packed.is_known, TimmEncoder(config).backbone.blocks))]
    assert unknown == ["norms after", "parallel"]


@every_kind
def test_a_masked_patch_is_not_seen(config: Encoder) -> None:
    encoder, mask, token = make(config).eval(), image(2, 16) > 0, image(32)
    x = image(2, 1, 16, 16)
    hidden = mask.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    seen, unseen = encoder.tokens(x, mask, token), encoder.tokens(torch.where(hidden, x + 7, x), mask, token)
    assert torch.equal(seen.patches, unseen.patches)
    assert not torch.allclose(seen.pooled, encoder.tokens(x).pooled)


@every_kind
def test_only_kept_patches_are_seen_and_they_know_their_place(config: Encoder) -> None:
    encoder, x = make(config).eval(), image(2, 1, 16, 16)
    kept = torch.stack([torch.randperm(16)[:5] for _ in range(2)])
    tokens = encoder.visible(x, kept)
    assert tokens.shape == (2, encoder.prefix_tokens + 5, 32)
    hidden = torch.ones(2, 16).scatter(1, kept, 0).view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(encoder.visible(x + 7 * hidden, kept), tokens)
    order = torch.randperm(5)
    prefix = encoder.prefix_tokens
    torch.testing.assert_close(encoder.visible(x, kept[:, order])[:, prefix:], tokens[:, prefix:][:, order], rtol=1e-9, atol=1e-9)
    elsewhere = encoder.visible(x.roll(4, 3), (kept // 4 * 4 + (kept + 1) % 4))
    assert not torch.allclose(elsewhere, tokens)


@every_kind
def test_all_patches_kept_are_the_whole_image(config: Encoder) -> None:
    encoder, x = make(config).eval(), image(2, 1, 16, 16)
    tokens = encoder.visible(x, torch.arange(16).expand(2, -1))
    torch.testing.assert_close(tokens[:, encoder.prefix_tokens :], encoder.tokens(x).patches, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(18, 18), (16, 18), (2, 2)])
def test_a_crop_that_cannot_be_cut_in_patches_is_a_users_error(shape: tuple[int, int]) -> None:
    message = rf"^a crop of {shape[0]} x {shape[1]} pixels cannot be cut in patches of 4 x 4: make image_size and views.local_size multiples"
    with pytest.raises(UserError, match=message):
        TimmEncoder(KINDS["ViT"])(torch.zeros(1, 1, *shape))


def test_names_tell_which_models_have_patches_that_can_be_masked() -> None:
    plain = {name for module in ("vision_transformer", "deit", "eva") for name in timm.list_models(module=module)}
    others = {"swin_tiny_patch4_window7_224", "beit_base_patch16_224", "beitv2_base_patch16_224", "vit_relpos_base_patch16_224", "vit_base_r50_s16_224"}
    assert {name for name in timm.list_models() if Encoder(name=name, image_size=16 * 14 * 8 * 5).is_vit} == plain
    assert len(plain) > 200
    assert not plain & others


@pytest.mark.parametrize(
    "name",
    ["test_vit", "flexivit_small", "vit_little_patch16_reg4_gap_256", "vit_small_patch16_dinov3", "vit_tiny_r_s16_p8_224", "beitv2_base_patch16_224"],
)
def test_what_a_name_tells_is_what_timm_makes_of_it(name: str) -> None:
    config = Encoder(name=name, image_size=224)
    with torch.device("meta"):
        assert vit.is_vit(TimmEncoder(config).backbone) == config.is_vit == (name[:10] not in ("vit_tiny_r", "beitv2_bas"))


# Stochastic depth


def rows_of_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each MLP works on from now on."""
    seen: list[int] = []
    scaled = packed._scaled

    def spy(block: Any, number: int, x: Tensor) -> Tensor:
        seen.append(len(x))
        return scaled(block, number, x)

    monkeypatch.setattr(packed, "_scaled", spy)
    return seen


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3", "vit_small_patch16_rope_mixed_224"])
def test_stochastic_depth_works_on_fewer_samples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TimmEncoder(small(name, drop_path_rate=0.5))
    seen = rows_of_blocks(monkeypatch)
    crops = [torch.randn(8, 1, 16, 16), torch.randn(4, 1, 8, 8)]
    whole, prefix = 8 * 16 + 4 * 4, encoder.prefix_tokens
    encoder.train().multi_crop(crops)
    assert seen == [whole + 12 * prefix] * 2 + [whole // 2 + 6 * prefix] * 2  # the rate rises from 0 in the first block to 0.5 in the last
    seen.clear()
    encoder.eval().multi_crop(crops)
    assert seen == [whole + 12 * prefix] * 4


def test_stochastic_depth_is_right_on_average_and_follows_torchs_seed() -> None:
    x, drop_path, draws = image(15, 4), DropPath(0.4), 1500

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return packed._residual(x, [packed.Part(5, 3, None)], drop_path, lambda tokens, _: tokens.sin())

    many = torch.stack([drawn(seed) for seed in range(draws)])
    errors = (many.mean(0) - (x + x.sin())) / (many.std(0) / draws**0.5)
    assert errors.abs().max() < 4.5  # of 60 standard normal numbers
    assert ((many == x).view(draws, 5, -1).all(2).sum(1) == 2).all()  # two of five samples are left out each time
    assert torch.equal(drawn(1), many[1])
    assert torch.equal(drop_path.eval()(x), x)
    assert torch.equal(drawn(1), x + x.sin())


def test_stochastic_depth_and_dropout_are_the_same_when_they_are_computed_again() -> None:
    encoder = make(small("vit_tiny_patch16_224", drop_path_rate=0.5, proj_drop_rate=0.2)).train()
    x = image(8, 1, 16, 16)
    plain = outcome(encoder, lambda: [encoder.tokens(x)])
    encoder.memory(checkpointing=True)
    torch.testing.assert_close(outcome(encoder, lambda: [encoder.tokens(x)]), plain, rtol=0, atol=0)
