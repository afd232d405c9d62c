"""Presets: the figures of each paper, under what is written besides, over what the method has."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from schemas.encoders import Encoder
from schemas.load import load
from schemas.methods import DINO, SimCLR
from schemas.spec import Spec
from schemas.stages import Pretrain
from schemas.views import PRESETS, Preset, Views

STRONG, HALF, WEAK = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1)
TABLE: dict[str, tuple[Any, ...]] = {
    # preset: scale, colour strengths, their probability, grey, flip, blur and solarize of each global crop, local crops, their scale
    "simclr": ((0.08, 1), STRONG, 0.8, 0.2, 0.5, [0.5, 0.5], [0, 0], None, None),
    "simclr_cifar": ((0.08, 1), HALF, 0.8, 0.2, 0.5, [0, 0], [0, 0], None, None),
    "moco_v1": ((0.2, 1), (0.4, 0.4, 0.4, 0.4), 1.0, 0.2, 0.5, [0, 0], [0, 0], None, None),
    "moco_v2": ((0.2, 1), HALF, 0.8, 0.2, 0.5, [0.5, 0.5], [0, 0], None, None),
    "byol": ((0.08, 1), WEAK, 0.8, 0.2, 0.5, [1.0, 0.1], [0, 0.2], None, None),
    "barlow_twins": ((0.08, 1), WEAK, 0.8, 0.2, 0.5, [1.0, 0.1], [0, 0.2], None, None),
    "swav": ((0.14, 1), STRONG, 0.8, 0.2, 0.5, [0.5, 0.5], [0, 0], 6, (0.05, 0.14)),
    "dino": ((0.4, 1), WEAK, 0.8, 0.2, 0.5, [1.0, 0.1], [0, 0.2], 8, (0.05, 0.4)),
    "dinov2": ((0.32, 1), WEAK, 0.8, 0.2, 0.5, [0.0, 0.9], [0, 0.2], 8, (0.05, 0.32)),
    "dinov3": ((0.32, 1), WEAK, 0.8, 0.2, 0.0, [0.0, 0.9], [0, 0.2], 8, (0.05, 0.32)),
    "mae": ((0.2, 1), (0, 0, 0, 0), 0.0, 0.0, 0.5, [0, 0], [0, 0], None, None),
    "sscd": ((0.08, 1), STRONG, 0.8, 0.2, 0.5, [0.5, 0.5], [0, 0], None, None),
}


class Special(Spec):
    """A method whose own views are unlike every preset's."""

    views: Views = Views(count=2, local_count=4, local_size=8, scale=(0.3, 0.9), blur=0.7, local_blur=0.3, rotation=5)


def test_every_preset_is_in_the_table() -> None:
    assert set(TABLE) == set(PRESETS) == set(get_args(Preset))


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_has_the_figures_of_its_paper(name: str) -> None:
    scale, strengths, jitter, grey, flip, blur, solarize, local_count, local_scale = TABLE[name]
    views = Views(preset=name)  # type: ignore[arg-type]  # one of the literal
    assert (views.scale, (views.brightness, views.contrast, views.saturation, views.hue)) == (scale, strengths)
    assert (views.jitter, views.grey, views.flip, views.count) == (jitter, grey, flip, 2)
    assert views.probabilities("blur")[:2] == blur
    assert views.probabilities("solarize")[:2] == solarize
    assert views.local_count == (local_count or 0)
    if local_count:
        assert views.local_scale == local_scale
        assert views.probabilities("blur")[2:] == [0.5] * local_count
        assert views.probabilities("solarize")[2:] == [0.0] * local_count


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_leaves_nothing_of_the_methods_own_changes_but_its_crops(name: str) -> None:
    views, alone = Special.model_validate({"views": name}).views, Views.model_validate(name)
    crops = {"count", "local_count", "local_size", "local_scale"}
    assert views.model_dump(exclude=crops) == alone.model_dump(exclude=crops)
    assert views.local_size == 8
    assert views.local_count == PRESETS[name].get("local_count", 4)


def test_what_is_written_comes_over_the_preset_and_the_preset_over_the_methods_own() -> None:
    assert Special.model_validate({"views": {"flip": 0}}).views == Special().views.model_copy(update={"flip": 0.0})
    views = Special.model_validate({"views": {"preset": "byol", "flip": 0, "scale": [0.5, 1]}}).views
    assert (views.flip, views.scale, views.blur, views.rotation, views.local_count) == (0.0, (0.5, 1.0), (1.0, 0.1), 0.0, 4)


def test_a_bare_name_a_mapping_and_the_values_themselves_are_the_same_views() -> None:
    spelled = Views(**PRESETS["dino"])
    assert Views(preset="dino") == Views.model_validate("dino") == Views.model_validate({"preset": "dino"}) == spelled
    assert "preset" not in Views(preset="dino").model_dump()
    assert Views.model_validate(Views(preset="dino").model_dump(mode="json")) == spelled


def test_an_unknown_preset_and_lists_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValidationError, match="'simclr', 'simclr_cifar'"):
        Views.model_validate("imagenet")
    with pytest.raises(ValidationError, match="blur lists 2 probabilities for a count of 1: write one number"):
        Views(preset="byol", count=1)
    assert Views(preset="byol", count=1, blur=0.5, solarize=0.1).probabilities("blur") == [0.5]


def test_local_crops_take_the_last_global_ones_probability_where_they_have_none_of_their_own() -> None:
    views = Views(count=3, local_count=2, blur=[0.1, 0.2, 0.3], solarize=0.4)  # type: ignore[arg-type]  # as YAML has it
    assert views.probabilities("blur") == [0.1, 0.2, 0.3, 0.3, 0.3]
    assert views.probabilities("solarize") == [0.4] * 5


@pytest.mark.parametrize(("image", "side"), [(224, 96), (448, 192), (112, 48), (32, 16), (64, 32), (96, 48), (256, 128), (28, 14), (1, 1)])
def test_a_local_crop_is_96_px_of_224_and_half_of_small_images(image: int, side: int) -> None:
    assert Views(preset="dino").local_side(image) == side
    assert Views(preset="dino", local_size=7).local_side(image) == 7


def test_a_local_crop_must_fit_the_encoder() -> None:
    def stage(**encoder: Any) -> Pretrain:
        return Pretrain(dataset="raw", method=DINO(views=Views(preset="dino")), encoder=Encoder(**encoder))

    assert stage(name="vit_small_patch16_224")
    assert stage(name="vit_tiny_patch16_224", image_size=32, patch_size=4)
    assert stage(name="resnet18", image_size=30)
    with pytest.raises(ValidationError, match=r"a local crop of 96 px is not a multiple of patch size 14: set method\.views\.local_size, such as to 98"):
        stage(name="vit_small_patch14_dinov2")


def test_a_method_that_compares_two_crops_refuses_a_preset_of_many() -> None:
    with pytest.raises(ValidationError, match="count must be 2 and local_count 0"):
        SimCLR.model_validate({"views": "dino"})
    assert SimCLR.model_validate({"views": {"preset": "dino", "local_count": 0}}).views.blur == (1.0, 0.1)


def test_yaml_may_name_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: x\nstages:\n  raw: {kind: ingest, source: digits}\n"
        "  a: {kind: pretrain, dataset: raw, method: {kind: dino, views: swav}, encoder: {name: resnet18}}\n"
        "  b: {kind: pretrain, dataset: raw, method: {kind: dino, views: {preset: byol, blur: [0.5, 0]}}, encoder: {name: resnet18}}\n"
    )
    a, b = (load(file).stages[name] for name in "ab")
    assert isinstance(a, Pretrain)
    assert isinstance(b, Pretrain)
    assert a.method.views.local_count == 6
    assert b.method.views.blur == (0.5, 0.0)
