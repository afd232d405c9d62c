"""Network: what a teacher or a student says, and the layers inside that are looked at on the way."""

from typing import Any

import pytest
import torch
from few_steps import few_steps
from small_methods import ENCODERS, Case
from torch import Tensor, nn
from torch.testing import assert_close

from schemas.distillers import AttentionTransfer, FitNets, Tap
from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.distill.network import PLACES, Network
from ssl_tasks.nn import taps
from ssl_tasks.nn.classifier import classifier_head
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.maps import as_map, as_places, resampled

VIT = Encoder(name="vit_tiny_patch16_224", image_size=16, patch_size=4, width=32, depth=3, heads=2, channels=1)
ROTARY = Encoder(name="vit_small_patch16_dinov3", image_size=16, patch_size=4, width=32, depth=2, heads=2, channels=1)
RESNET = Encoder(name="resnet10t", image_size=32, channels=1, options={"channels": [8, 12, 16, 20]})
PREACTIVATED = ENCODERS["convnet"]
CONVNEXT = Encoder(name="convnext_atto", image_size=32, channels=1, options={"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 20]})
SWIN = Encoder(
    name="swin_tiny_patch4_window7_224",
    image_size=32,
    channels=1,
    options={"depths": [1, 1, 1, 1], "embed_dim": 12, "num_heads": [1, 1, 1, 1], "window_size": 2},
)
HIERA = Encoder(name="hiera_tiny_224", channels=1, image_size=224)


def network(encoder: Encoder, *layers: str, places: bool = False) -> Network:
    torch.manual_seed(0)
    return Network(TimmEncoder(encoder), None, layers, places)


def images(encoder: Encoder, count: int = 3) -> Tensor:
    return torch.randn(count, encoder.channels, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))


# Which maps there are


@pytest.mark.parametrize(
    ("encoder", "layer", "shape"),
    [
        (RESNET, "layer3", (16, 2, 2)),
        (RESNET, "conv1", (64, 16, 16)),
        (PREACTIVATED, "stages.0", (8, 8, 8)),
        (CONVNEXT, "stages.2", (16, 2, 2)),
        (CONVNEXT, "stages.1.blocks.0.mlp", (12, 4, 4)),
        (SWIN, "layers.1", (24, 4, 4)),
        (SWIN, "patch_embed.proj", (12, 8, 8)),
        (VIT, "blocks.0", (32, 4, 4)),
        (VIT, "blocks.1.attn", (32, 4, 4)),
        (VIT, "patch_embed", (32, 4, 4)),
        (VIT, "blocks", (32, 4, 4)),
        (VIT, "last", (32, 4, 4)),
        (RESNET, "last", (20, 1, 1)),
        (ROTARY, "blocks.1", (32, 4, 4)),
        (SWIN, "last", (96, 1, 1)),
    ],
    ids=str,
)
def test_a_layer_gives_a_map_with_channels_first(encoder: Encoder, layer: str, shape: tuple[int, int, int]) -> None:
    looking = network(encoder, layer)
    assert looking.shapes().map(layer) == shape
    assert looking([images(encoder)]).map(layer).shape == (3, *shape)


def test_the_maps_of_a_convnet_are_what_its_stages_give() -> None:
    looking = network(RESNET, "layer2", "layer4").eval()
    x, by_hand = images(RESNET), looking.encoder.backbone
    seen = looking([x])
    stem = by_hand.maxpool(by_hand.act1(by_hand.bn1(by_hand.conv1(x))))
    second = by_hand.layer2(by_hand.layer1(stem))
    assert_close(seen.map("layer2"), second)
    assert_close(seen.map("layer4"), by_hand.layer4(by_hand.layer3(second)))


def test_where_channels_are_as_many_as_rows_the_model_says_where_they_are() -> None:
    square = SWIN.model_copy(update={"options": {**SWIN.options, "embed_dim": 8}})
    for encoder, stem, layer, order in ((PREACTIVATED, "stem", "stages.0", (0, 1, 2, 3)), (square, "patch_embed", "layers.0", (0, 3, 1, 2))):
        looking = network(encoder, layer).eval()
        backbone, x = looking.encoder.backbone, images(encoder)
        found = looking([x]).map(layer)
        assert found.shape == (3, 8, 8, 8)
        assert_close(found, backbone.get_submodule(layer)(backbone.get_submodule(stem)(x)).permute(order))


def test_a_map_of_tokens_has_each_patch_at_its_place_whatever_comes_before_them() -> None:
    """Of the patch embedding the map is that of the convolution; of the last block it is, after the norm, the places that come out."""
    looking = network(ROTARY, "patch_embed", "patch_embed.proj", "last", places=True).eval()
    assert looking.encoder.prefix_tokens == 5
    seen = looking([images(ROTARY)])
    assert_close(seen.map("patch_embed"), seen.map("patch_embed.proj"))
    assert_close(looking.encoder.backbone.norm(as_places(seen.map("last"))), seen.places)


def test_a_map_with_channels_last_is_turned() -> None:
    looking = network(SWIN, "layers.3", places=True).eval()
    seen = looking([images(SWIN)])
    assert_close(looking.encoder.backbone.norm(as_places(seen.map("layers.3"))), seen.places)


def test_views_are_joined_one_after_the_other_in_maps_too() -> None:
    looking = network(VIT, "blocks.1").eval()
    x = images(VIT, 4)
    assert_close(looking([x[:2], x[2:]]).map("blocks.1"), looking([x]).map("blocks.1"))


def test_local_crops_leave_the_maps_alone() -> None:
    looking = network(VIT, "blocks.1").eval()
    x = images(VIT)
    assert_close(looking([x], [x[..., :8, :8]]).map("blocks.1"), looking([x]).map("blocks.1"))


@pytest.mark.parametrize("encoder", [VIT, ROTARY, RESNET, SWIN], ids=lambda e: e.name)
def test_looking_changes_nothing_of_what_comes_out(encoder: Encoder) -> None:
    plain, looking = network(encoder, places=True).double().eval(), network(encoder, "last", places=True).double().eval()
    x = images(encoder).double()
    theirs, ours = plain([x]), looking([x])
    assert_close(ours.pooled, theirs.pooled, rtol=1e-12, atol=1e-12)
    assert_close(ours.places, theirs.places, rtol=1e-12, atol=1e-12)


def test_no_hook_is_left_behind() -> None:
    looking = network(VIT, "blocks.1")
    looking([images(VIT)])
    assert not any(module._forward_hooks for module in looking.modules())


# What is refused


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UserError, match=r"'resnet10t' has no layer 'layer9'; the nearest are: layer\d, layer\d, layer\d, layer\d"):
        network(RESNET, "layer9")
    with pytest.raises(UserError, match=r"no layer 'blocks\.3'; the nearest are: blocks\.\d"):
        network(VIT, "blocks.3")
    with pytest.raises(UserError, match=r"no layer 'xyz'; the nearest are: patch_embed, .*blocks"):
        network(VIT, "xyz")


@pytest.mark.parametrize(
    ("encoder", "layer", "message"),
    [
        (VIT, "fc_norm", r"layer 'fc_norm' of 'vit_tiny_patch16_224' gives no feature map but, of an image, \(32,\): name one"),
        (RESNET, "global_pool", r"gives no feature map but, of an image, \(20,\)"),
        (VIT, "blocks.0.attn.q_norm", r"of an image, \(2, 17, 16\)"),
        (SWIN, "layers.0.blocks.0.attn", r"layer 'layers.0.blocks.0.attn' of .* gives no feature map"),
        (HIERA, "blocks.0", "gives no feature map"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_layer_that_gives_no_map_is_refused(encoder: Encoder, layer: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        network(encoder, layer).shapes()


def test_a_layer_that_is_not_called_is_refused() -> None:
    encoder = TimmEncoder(VIT)
    encoder.backbone.add_module("unused", nn.Identity())
    with pytest.raises(UserError, match="layer 'unused' of 'vit_tiny_patch16_224' is not called on the way to the features"):
        Network(encoder, None, ["unused"])([images(VIT)])


@pytest.mark.parametrize(
    ("pieces", "given"),
    [
        ([(torch.zeros(3, 4),)], "of an image, tuple"),
        ([torch.zeros(2, 4, 4, 4), torch.zeros(1, 4, 2, 2)], "of an image, several shapes"),
        ([torch.zeros(3, 8, 4, 4), torch.zeros(3, 8, 4, 4)], r"of an image, \(8, 4, 4\)"),
    ],
    ids=["no tensor", "several shapes", "called twice"],
)
def test_what_is_no_map_an_image_is_refused(pieces: list[Any], given: str) -> None:
    with pytest.raises(UserError, match=given):
        taps.maps(TimmEncoder(VIT), {"odd": pieces}, images(VIT))


# Memory


MEMORY: list[dict[str, Any]] = [{"pieces": 3}, {"checkpointing": True}, {"pieces": 3, "checkpointing": True}]
LOOKING = {
    "attention in a ViT": Case(AttentionTransfer(layers=[Tap(student="last", teacher="blocks.0")]), ENCODERS["vit"]),
    "hints in a ViT": Case(FitNets(layers=[Tap(student="blocks.0", teacher="blocks.0")]), ENCODERS["vit"]),
    "hints in a ConvNet": Case(FitNets(layers=[Tap(student="stages.0", teacher="blocks.0"), Tap(student="stages.1", teacher="last")]), PREACTIVATED),
    "hints in a ResNet": Case(FitNets(layers=[Tap(student="layer2", teacher="blocks.0")]), RESNET.model_copy(update={"image_size": 16})),
}


@pytest.mark.parametrize(
    ("name", "memory"), [(name, memory) for name, case in LOOKING.items() for memory in MEMORY if case.encoder.is_vit or "pieces" not in memory], ids=str
)
def test_layers_that_are_looked_at_learn_the_same_however_little_memory_there_is(name: str, memory: dict[str, Any]) -> None:
    """But for a counter of batch norms, which nothing reads: a batch that is computed again counts once more."""
    saving, plain = (few_steps(LOOKING[name], memory=given) for given in (memory, None))
    for found in (saving, plain):
        found["state"] = {path: value for path, value in found["state"].items() if not path.endswith("num_batches_tracked")}
    assert_close(saving, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", LOOKING)
def test_the_map_in_the_loss_has_a_gradient_down_to_the_first_layer(name: str) -> None:
    gradients = few_steps(LOOKING[name], memory={"checkpointing": True})["gradients"]
    first = next(path for path, _ in TimmEncoder(LOOKING[name].encoder).backbone.named_parameters() if "patch_embed" in path or "conv" in path)
    assert gradients[f"network.encoder.backbone.{first}"].any()


# What is trained


def test_what_lies_behind_the_layers_that_a_student_learns_by_is_held_still() -> None:
    looking = network(RESNET, "layer2", places=True)
    looking.hold_still_but(["layer2"])
    still = {name.split(".")[2] for name, p in looking.named_parameters() if not p.requires_grad}
    assert still == {"layer3", "layer4"}
    assert looking.training
    whole = network(RESNET, places=True)
    whole.hold_still_but([PLACES])
    assert all(p.requires_grad for p in whole.parameters())


def test_a_norm_that_only_pooled_features_go_through_is_held_still() -> None:
    looking = network(CONVNEXT, places=True)
    looking.hold_still_but([PLACES])
    assert {name for name, p in looking.named_parameters() if not p.requires_grad} == {
        "encoder.backbone.head.norm.weight",
        "encoder.backbone.head.norm.bias",
    }


# Shapes


def test_shapes_tell_of_places_only_where_they_are_wanted() -> None:
    assert network(VIT).shapes().grid == (0, 0)
    shapes = network(CONVNEXT, "stages.0", places=True).shapes()
    assert (shapes.map(), shapes.map("stages.0"), shapes.dim, shapes.classes) == ((20, 1, 1), (8, 8, 8), 20, 0)


def test_shapes_leave_batch_norms_and_modes_alone() -> None:
    looking = Network(TimmEncoder(RESNET), classifier_head(20, 3))
    before = {name: value.clone() for name, value in looking.state_dict().items()}
    looking.encoder.backbone.layer1.eval()
    assert looking.shapes().classes == 3
    assert all(torch.equal(value, before[name]) for name, value in looking.state_dict().items())


# Maps and places


def test_places_are_row_by_row() -> None:
    feature_map = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4).float()
    places = as_places(feature_map)
    assert torch.equal(places[1, 6], feature_map[1, :, 1, 2])
    assert torch.equal(as_map(places), feature_map)
    assert as_map(places[:, :7]).shape == (2, 3, 1, 7), "one row where they fill no square"


def test_a_map_that_shrinks_to_its_half_is_the_mean_of_four_places_weighed_by_nearness() -> None:
    """Bilinear with every place counted: along each side the weights are 1, 3, 3, 1 over 8, cut at the edge."""
    row = torch.tensor([[[[0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0]]]]).expand(1, 1, 8, 8)
    assert_close(resampled(row, (4, 4))[0, 0, 0], torch.tensor([8 / 7, 3.0, 0.0, 0.0]))


def test_a_map_of_one_value_keeps_it_on_any_grid() -> None:
    flat = torch.full((1, 2, 5, 5), 3.0)
    assert_close(resampled(flat, (7, 3)), torch.full((1, 2, 7, 3), 3.0))
    assert resampled(flat, (5, 5)) is flat
