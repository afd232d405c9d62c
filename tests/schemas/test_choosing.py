"""Advice on which method to choose follows from published tables, which name data, budget and encoder of every figure."""

import pytest

from schemas.choosing import BEST, Use, advise
from schemas.encoders import Encoder
from schemas.methods import Method
from schemas.methods.leaderboard import TABLES, Table, figures
from schemas.shapes import kinds

RESNET, VIT, SWIN, CONVNEXT = "resnet50", "vit_small_patch16_224", "swin_tiny_patch4_window7_224", "convnextv2_atto"
CASES = [(images, name, task) for images in (500, 50_000, 10**6, 10**8) for name in (RESNET, VIT, SWIN, CONVNEXT) for task in ("global", "dense", "both")]


def advised(images: int, name: str, task: Use) -> list[str]:
    return [choice.what for choice in advise(images, Encoder.model_construct(name=name), task)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.data} {table.backbone} {table.protocol}")
def test_a_table_names_methods_that_there_are_and_plausible_figures(table: Table) -> None:
    assert set(table.figures) <= set(kinds(Method))
    assert all(0 < value < 100 for value, _ in table.figures.values())
    assert table.source.startswith("https://") or not table.source


def test_a_figure_says_what_it_hangs_on() -> None:
    assert str(next(figures("moco_v1"))) == "60.6 linear top-1 (ResNet-50, ImageNet-1k, 200 epochs)"
    assert {figure.backbone for figure in figures("mae")} == {"ViT-B/16", "ViT-S/16"}


def test_figures_that_are_known_to_be_wrong_are_not_there() -> None:
    shown = {kind: {figure.value for figure in figures(kind)} for kind in kinds(Method)}
    assert 76.5 not in shown["simclr"], "of a network four times as wide"
    assert 81.1 not in shown["dinov2"], "of a ViT-S, which a text gives to the ViT-g"
    assert not any(figure.protocol.startswith("linear") for kind in ("rotnet", "jigsaw", "colorization") for figure in figures(kind)), "of unlike networks"


@pytest.mark.parametrize(("images", "name", "task"), CASES)
def test_every_case_gets_a_method_that_its_encoder_can_be_trained_by(images: int, name: str, task: Use) -> None:
    methods = kinds(Method)
    named = [what for what in advised(images, name, task) if what in methods]
    assert named
    architecture = Encoder.model_construct(name=name).architecture
    assert all(not methods[kind].architectures or architecture in methods[kind].architectures for kind in named)


@pytest.mark.parametrize(("images", "name", "task"), CASES)
def test_every_advice_has_its_reason_and_source(images: int, name: str, task: Use) -> None:
    for choice in advise(images, Encoder.model_construct(name=name), task):
        assert choice.why
        assert "https://" in choice.source or choice.source.startswith("docs/")


def test_the_nearest_table_decides() -> None:
    assert advised(9_000, RESNET, "global")[:BEST] == ["swav", "simclr", "dino"], "Imagenette"
    assert advised(50_000, RESNET, "global")[0] in ("byol", "moco_v3"), "CIFAR-10"
    assert advised(10**6, RESNET, "global")[0] in ("relic_v2", "dino"), "ImageNet-1k"


def test_masked_methods_are_for_places_and_for_many_images() -> None:
    assert "ibot" not in advised(9_000, VIT, "global")
    assert advised(10**6, VIT, "dense")[0] == "ibot"
    assert advised(10**8, VIT, "both")[0] == "dinov2"


def test_encoders_with_a_method_of_their_own_are_told_of_it() -> None:
    assert "fcmae" in advised(10**6, CONVNEXT, "both")
    assert "simmim" in advised(10**6, SWIN, "both")
    assert "densecl" in advised(10**6, RESNET, "dense")


def test_few_images_are_to_start_from_trained_weights() -> None:
    assert "init_from" in advised(2_000, RESNET, "global")
    assert "init_from" not in advised(10**6, RESNET, "global")
