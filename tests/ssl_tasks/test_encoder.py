"""Any timm model behind one face; what timm refuses is a user's error that says what to do."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.training import Train
from schemas.views import Views
from ssl_tasks.learner import Learner
from ssl_tasks.methods import build
from ssl_tasks.nn.encoder import TimmEncoder, encoders_that_learn, parameters

SMALL_VIT: dict[str, Any] = {"name": "vit_tiny_patch16_224", "image_size": 16, "patch_size": 4, "width": 32, "depth": 1, "heads": 2, "channels": 1}
SMALL_RESNET: dict[str, Any] = {"image_size": 16, "channels": 1, "stem": "half"}


def small_resnet(width: int) -> Encoder:
    channels = [width, 2 * width, 4 * width]
    return Encoder(name="resnetv2_18", **SMALL_RESNET, options={"layers": [1, 1, 1], "channels": channels, "stem_chs": width})


def images(config: Encoder, size: int | None = None) -> Tensor:
    side = size or config.image_size
    return torch.randn(2, config.channels, side, side, generator=torch.Generator().manual_seed(0))


CONFIGS = {
    "ViT": Encoder(**SMALL_VIT),
    "DeiT": Encoder(**{**SMALL_VIT, "name": "deit_tiny_distilled_patch16_224"}),
    "BEiT": Encoder(**{**SMALL_VIT, "name": "beit_base_patch16_224"}),
    "EVA": Encoder(**{**SMALL_VIT, "name": "eva02_tiny_patch14_224"}),
    "ResNet": Encoder(name="resnet10t", image_size=32),
    "pre-activation ResNet": small_resnet(8),
    "MobileNet v3": Encoder(name="mobilenetv3_small_050", image_size=32),
    "ConvNeXt": Encoder(name="convnext_atto", image_size=32, options={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}),
    "Swin": Encoder(
        name="swin_tiny_patch4_window7_224",
        image_size=32,
        options={"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]},
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_pooled_features_and_tokens_have_the_stated_shapes(config: Encoder) -> None:
    encoder = TimmEncoder(config).eval()
    pooled, places = encoder.tokens(images(config))
    assert encoder(images(config)).shape == pooled.shape == (2, encoder.dim)
    assert torch.equal(encoder(images(config)), pooled)
    assert places.shape[0] == 2
    if config.is_vit:
        assert places.shape[1:] == ((config.image_size // (config.patch_size or 0)) ** 2, encoder.dim)


def test_tokens_are_in_row_major_order_for_every_layout_of_features() -> None:
    """Noise in the lower left quarter of the image moves the token of that quarter most."""
    for name in ("ViT", "ConvNeXt", "Swin"):
        config = CONFIGS[name].model_copy(update={"image_size": 64, "options": {**CONFIGS[name].options, **({"img_size": 64} if name == "Swin" else {})}})
        encoder = TimmEncoder(config).eval()
        plain, altered = torch.zeros(1, config.channels, 64, 64), torch.zeros(1, config.channels, 64, 64)
        altered[..., 32:, :32] = images(config)[:1, :, 32:, :32]
        with torch.no_grad():
            moved = (encoder.tokens(altered)[1] - encoder.tokens(plain)[1]).norm(dim=-1)[0]
        side = int(len(moved) ** 0.5)
        quarters = moved.view(2, side // 2, 2, side // 2).mean((1, 3))
        assert quarters.argmax() == 2, name


def test_the_cls_token_is_what_a_vit_gives_and_the_average_what_a_convnet_gives() -> None:
    vit, resnet = TimmEncoder(CONFIGS["ViT"]).eval(), TimmEncoder(CONFIGS["ResNet"]).eval()
    assert torch.equal(vit(images(vit.config)), vit.backbone.forward_features(images(vit.config))[:, 0])
    pooled, places = resnet.tokens(images(resnet.config))
    torch.testing.assert_close(pooled, places.mean(dim=1))


@pytest.mark.parametrize(("width", "count"), [(32, 306_400), (8, 19_384)])
def test_narrow_convnets_for_grey_images_of_16_pixels(width: int, count: int) -> None:
    encoder = TimmEncoder(small_resnet(width))
    assert parameters(encoder) == count
    assert encoder.dim == 4 * width
    assert encoder.tokens(images(encoder.config))[1].shape == (2, 4, 4 * width)


def test_arguments_reach_the_vit() -> None:
    backbone = TimmEncoder(CONFIGS["ViT"]).backbone
    assert (len(backbone.blocks), backbone.embed_dim, backbone.blocks[0].attn.num_heads, backbone.patch_embed.patch_size) == (1, 32, 2, (4, 4))
    deeper = TimmEncoder(Encoder(**{**SMALL_VIT, "options": {"mlp_ratio": 2, "reg_tokens": 3}}))
    assert deeper.backbone.blocks[0].mlp.fc1.out_features == 64
    assert deeper.tokens(images(deeper.config))[1].shape == (2, 16, 32)


@pytest.mark.parametrize("size", [8, 12, 24])
def test_a_vit_takes_crops_of_other_sizes(size: int) -> None:
    encoder = TimmEncoder(CONFIGS["ViT"])
    assert encoder(images(encoder.config, size)).shape == (2, 32)


def test_windows_are_made_for_the_encoders_own_size_where_the_name_tells_no_patch() -> None:
    narrow = {"depths": [1, 1, 1, 1], "embed_dim": 24, "num_heads": [1, 1, 1, 1]}
    encoder = TimmEncoder(Encoder(name="swinv2_cr_tiny_224", image_size=64, options=narrow)).eval()
    assert encoder(torch.zeros(2, 3, 64, 64)).shape == (2, encoder.dim)


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "resnetv2_18", "resnetv2_18d", "seresnet18"])
@pytest.mark.parametrize(("stem", "places"), [("imagenet", 1), ("cifar", 16), ("half", 4)])
def test_small_stems_keep_the_resolution_of_small_images(name: str, stem: str, places: int) -> None:
    encoder = TimmEncoder(Encoder.model_validate({"name": name, "image_size": 32, "stem": stem}))
    assert encoder.tokens(images(encoder.config))[1].shape[1] == places


def test_a_small_stem_is_a_3x3_convolution() -> None:
    encoder = TimmEncoder(Encoder(name="resnet18", image_size=32, channels=1, stem="cifar"))
    first = encoder.backbone.conv1
    assert (first.in_channels, first.out_channels, first.kernel_size, first.stride, first.bias) == (1, 64, (3, 3), (1, 1), None)
    assert isinstance(encoder.backbone.maxpool, nn.Identity)


def test_the_same_seed_gives_the_same_weights_and_the_state_dict_goes_round() -> None:
    torch.manual_seed(0)
    first = TimmEncoder(CONFIGS["ViT"])
    torch.manual_seed(0)
    second = TimmEncoder(CONFIGS["ViT"])
    third = TimmEncoder(CONFIGS["ViT"])
    x = images(first.config)
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), third(x))
    third.backbone.load_state_dict(first.backbone.state_dict())
    assert torch.equal(first(x), third(x))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "resnett18"}, r"^encoder.name 'resnett18': timm has no such model; did you mean 'resnet18'\?$"),
        ({"name": "qqqqqqqqq"}, r"^encoder.name 'qqqqqqqqq': timm has no such model; see timm.list_models\(\)$"),
        ({"name": "hf-hub:timm/resnet18.a1_in1k"}, "timm has no such model"),
        ({"name": "resnet18", "options": {"wdth": 3}}, "'resnet18' cannot be made with in_chans=3, wdth=3: .*unexpected keyword.*encoder.options"),
        ({"name": "resnet18", "depth": 3}, "depth=3.*are given to ViTs only"),
        ({**SMALL_VIT, "width": 32, "heads": None}, "num_heads.*encoder.options"),
        ({"name": "convnext_atto", "stem": "cifar"}, "^encoder.stem 'cifar' is for ResNets, and 'convnext_atto' is none"),
    ],
)
def test_what_cannot_be_made_is_a_users_error_on_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        TimmEncoder(Encoder.model_validate(given))
    assert "\n" not in str(caught.value)


# Memory

TINY = {
    "ViT": Encoder(**{**SMALL_VIT, "depth": 2}),
    "ConvNeXt": Encoder(name="convnext_atto", image_size=64, options={"depths": [1, 2, 1, 1], "dims": [8, 16, 24, 32]}),
    "ResNet": Encoder(name="resnet10t", image_size=32, channels=1),
}
METHODS: dict[str, Any] = {
    "simclr": configs.SimCLR(hidden=16, output=8),
    "dino": configs.DINO(prototypes=12, hidden=16, bottleneck=8, views=Views(local_count=2, local_size=8)),
}


def trained(kind: str, config: Encoder, **economy: Any) -> dict[str, Any]:
    """Loss, gradients and state of a method after forward and backward, in float64; every learning encoder as `economy` says."""
    torch.manual_seed(0)
    method = build(METHODS[kind], TimmEncoder(config)).double().train()
    for encoder in encoders_that_learn(method):
        encoder.train_as(Train(**economy))
    seen = METHODS[kind].views
    sides = [config.image_size] * seen.count + [config.image_size // 2] * seen.local_count
    views = [torch.randn(6, config.channels, side, side, dtype=torch.float64) for side in sides]
    loss = torch.stack(list(method(views, 0.5).values())).sum()
    torch.autograd.backward(loss)
    gradients = {name: p.grad for name, p in method.named_parameters() if p.requires_grad}
    return {"loss": loss.detach(), "gradients": gradients, "state": {n: v for n, v in method.state_dict().items() if "num_batches_tracked" not in n}}


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize(
    ("encoder", "economy"),
    [
        ("ViT", {"accumulate": 3}),
        ("ViT", {"accumulate": 4}),
        ("ViT", {"accumulate": 100}),
        ("ViT", {"activation_checkpointing": True}),
        ("ViT", {"accumulate": 2, "activation_checkpointing": True}),
        ("ConvNeXt", {"accumulate": 3}),
        ("ConvNeXt", {"accumulate": 2, "activation_checkpointing": True}),
        ("ResNet", {"activation_checkpointing": True}),
    ],
)
def test_training_in_less_memory_is_training_with_the_whole_batch(kind: str, encoder: str, economy: dict[str, Any]) -> None:
    spared, whole = trained(kind, TINY[encoder], **economy), trained(kind, TINY[encoder])
    resized = "encoder.backbone.pos_embed"  # timm resizes positions for other crops in float32, whatever they are in
    if resized in whole["gradients"]:
        torch.testing.assert_close(spared["gradients"].pop(resized), whole["gradients"].pop(resized), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(spared, whole, rtol=1e-10, atol=1e-12)


def test_dropout_is_the_same_when_pieces_are_computed_again() -> None:
    """The features of the forward pass are those that the gradient is of."""
    torch.manual_seed(0)
    encoder = TimmEncoder(TINY["ViT"].model_copy(update={"options": {"proj_drop_rate": 0.5, "drop_path_rate": 0.5}})).double().train()
    encoder.memory(pieces=2, checkpointing=True)
    x, bias = torch.randn(8, 1, 16, 16, dtype=torch.float64), encoder.backbone.patch_embed.proj.bias
    torch.manual_seed(1)
    torch.autograd.backward(encoder(x).sin().sum())
    step, moved = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            bias[0] += sign * step
            torch.manual_seed(1)
        moved.append(encoder(x).sin().sum().item())
        with torch.no_grad():
            bias[0] -= sign * step
    torch.testing.assert_close(bias.grad[0].item(), (moved[0] - moved[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def kept(economy: dict[str, Any]) -> int:
    """Bytes that autograd keeps between forward and backward."""
    encoder = TimmEncoder(Encoder(**{**SMALL_VIT, "depth": 6})).train()
    encoder.train_as(Train(**economy))
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(32, 1, 16, 16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encoder(x)
    return sum(saved.values())


def test_less_is_kept() -> None:
    plain, blocks, pieces = kept({}), kept({"activation_checkpointing": True}), kept({"accumulate": 4})
    assert blocks < 0.2 * plain
    assert pieces < 0.2 * plain


def test_pieces_are_refused_where_batch_norm_would_see_them() -> None:
    encoder = TimmEncoder(TINY["ResNet"])
    with pytest.raises(UserError, match=r"^train.accumulate 2 does not fit encoder 'resnet10t': its batch norms would see one piece"):
        encoder.train_as(Train(accumulate=2))
    encoder.train_as(Train(accumulate=1))


def test_evaluation_is_not_in_pieces() -> None:
    encoder = TimmEncoder(TINY["ViT"]).eval()
    expected = encoder(images(encoder.config))
    encoder.train_as(Train(accumulate=2, activation_checkpointing=True))
    assert torch.equal(encoder(images(encoder.config)), expected)


def test_what_only_pooled_features_pass_can_be_held_still() -> None:
    encoder = TimmEncoder(Encoder(**{**SMALL_VIT, "name": "vit_base_patch16_siglip_224"}))
    encoder.patches_only()
    torch.autograd.backward(encoder.visible(images(encoder.config), torch.arange(4).expand(2, -1)).sin().sum())
    assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not any(p.requires_grad for p in encoder.backbone.attn_pool.parameters())


@pytest.mark.parametrize("economy", [{}, {"accumulate": 2}, {"activation_checkpointing": True}], ids=["plain", "in pieces", "blocks again"])
def test_what_is_compiled_computes_the_same(economy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by torch.compile, without its machine code, which takes a minute to build."""
    expected = trained("dino", TINY["ViT"], **economy)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.testing.assert_close(trained("dino", TINY["ViT"], compile=True, **economy), expected, rtol=1e-10, atol=1e-12)


def test_a_training_takes_on_what_its_config_says_of_memory(tmp_path: Path) -> None:
    method = build(METHODS["dino"], TimmEncoder(TINY["ViT"]))
    Learner("", method, Train(accumulate=3, activation_checkpointing=True), 6, 0, tmp_path, torch.device("cpu")).prepare()
    passed: list[int] = []
    for encoder in (m for m in method.modules() if isinstance(m, TimmEncoder)):
        encoder.backbone.norm.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    method([torch.randn(6, 1, side, side) for side in (16, 16, 8, 8)], 0.5)
    assert passed == [12 * 17] + 3 * [4 * 17 + 4 * 5]  # the teacher keeps nothing anyway
