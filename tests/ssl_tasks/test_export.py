"""Exports: files that other programs load without this package, each the same function as the checkpoint."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from handed_out import CLASSES, GEM, PLAIN_CONV, checkpoint, handed_out
from tiny_training import CONV, VIT, Recorder
from torch import Tensor

from schemas.artifacts import Checkpoint, Export
from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.checkpoints import load_classifier, load_encoder
from ssl_tasks.export import timm_weights, torch_archive
from ssl_tasks.export.formats import Differs, compare
from ssl_tasks.export.original import Original
from ssl_tasks.export.runtime import Images, Outputs

Pair = tuple[Checkpoint, Export]


def images(source: Checkpoint, count: int, height: int = 0, width: int = 0) -> Tensor:
    config = source.encoder
    shape = (count, config.channels, height or config.image_size, width or height or config.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def tried(made: Export) -> dict[str, set[tuple[int, int]]]:
    """Heights and widths that each format was checked on."""
    stated = json.loads(made.path("checks.json").read_text())["made"]
    return {name: {(check["height"], check["width"]) for check in entry["checks"]} for name, entry in stated.items()}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A ViT in every format."""
    source = checkpoint(tmp_path_factory.mktemp("encoder"), VIT)
    return source, handed_out(source)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A ConvNet with a head of three classes, in every format."""
    source = checkpoint(tmp_path_factory.mktemp("classifier"), PLAIN_CONV, CLASSES)
    return source, handed_out(source)


@pytest.fixture(params=["encoder", "classifier"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)


def right(source: Checkpoint, batch: Tensor) -> list[Tensor]:
    """Features, logits where there are any, and patches, as the checkpoint itself gives them."""
    with torch.inference_mode():
        whole, seen = load_classifier(source), load_encoder(source).tokens(batch)
        return [seen.pooled, *([whole(batch)] if whole else []), seen.patches]


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("larger", [(0, 0), (1, 1), (1, 3)], ids=["own size", "larger", "no square"])
def test_onnx_gives_the_same_for_batches_and_images_of_any_size(pair: Pair, count: int, larger: tuple[int, int]) -> None:
    import onnxruntime

    source, made = pair
    own, step = source.encoder.image_size, source.encoder.patch or 32
    batch = images(source, count, own + larger[0] * step, own + larger[1] * step)
    session = onnxruntime.InferenceSession(made.path("onnx/model.onnx"))
    assert [output.name for output in session.get_outputs()] == made.outputs
    for given, wanted in zip(session.run(None, {"images": batch.numpy()}), right(source, batch), strict=True):
        np.testing.assert_allclose(given, wanted, atol=2e-5)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_torch_archive_gives_the_same_for_batches_of_any_size(pair: Pair, count: int) -> None:
    source, made = pair
    batch = images(source, count)
    loaded = torch.export.load(made.path("torch_export/model.pt2")).module()
    for given, wanted in zip(loaded(batch), right(source, batch), strict=True):
        torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("how", ["checkpoint_path", "local-dir"])
def test_timm_creates_the_model_with_the_head_as_its_classifier(pair: Pair, how: str) -> None:
    source, made = pair
    stated = json.loads(made.path("timm/config.json").read_text())
    if how == "checkpoint_path":
        file = str(made.path("timm/model.safetensors"))
        model = timm.create_model(stated["architecture"], num_classes=len(source.classes), checkpoint_path=file, **stated["model_args"])
    else:
        model = timm.create_model(f"local-dir:{made.path('timm')}", pretrained=True)
    batch = images(source, 3)
    wanted = right(source, batch)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(batch), wanted[1 if source.classes else 0], atol=1e-5, rtol=1e-5)


def test_timm_is_told_how_to_prepare_images_and_what_the_classes_are(classifier: Pair) -> None:
    _, made = classifier
    model = timm.create_model(f"local-dir:{made.path('timm')}", pretrained=True)
    prepared = timm.data.resolve_data_config(model=model)
    assert prepared["input_size"] == (1, 32, 32)
    assert (prepared["mean"], prepared["std"], prepared["crop_pct"]) == ([0.4], [0.2], 0.875)
    assert model.pretrained_cfg["label_names"] == CLASSES


def test_an_export_states_what_it_is_and_how_near_it_came(classifier: Pair) -> None:
    source, made = classifier
    assert (made.formats, made.outputs) == (["timm", "onnx", "torch_export"], ["features", "logits", "patches"])
    assert (made.encoder, made.mean, made.classes, made.dim) == (source.encoder, source.mean, CLASSES, source.dim)
    assert made.parents == {"teacher": source.key}
    stated = json.loads(made.path("checks.json").read_text())
    for name, entry in stated["made"].items():
        assert {check["batch"] for check in entry["checks"]} >= {1, 2, 5}
        assert made.metrics[f"{name}/max_relative"] == max(check["relative"] for check in entry["checks"]) <= stated["tolerance"]
    assert tried(made)["onnx"] == {(32, 32), (64, 64), (64, 96)}


@pytest.mark.parametrize(
    ("config", "fields", "reason"),
    [
        (CONV, {}, "no place for encoder.stem half"),
        (GEM, {}, "no place for encoder.pooling gem, encoder.head 4"),
        (VIT.model_copy(update={"neck": 8}), {}, "no place for encoder.neck 8"),
        (VIT.model_copy(update={"whitening": 5}), {}, "no place for encoder.whitening 5"),
        (VIT, {"classes": CLASSES, "hidden": 6}, "no place for a classifier of two layers"),
    ],
    ids=["stem", "descriptor", "neck", "whitened", "two layers"],
)
def test_what_timm_has_no_place_for_is_refused_with_the_reason(tmp_path: Path, config: Any, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"teacher cannot be exported: timm is refused: a timm model has {reason}; name another format"):
        handed_out(checkpoint(tmp_path, config, **fields), formats=["timm"])


def test_a_refused_format_keeps_no_other_from_being_made(tmp_path: Path) -> None:
    tracker, source = Recorder(), checkpoint(tmp_path, GEM)
    made = handed_out(source, tracker, formats=["timm", "torch_export"])
    assert made.formats == ["torch_export"]
    assert "encoder.pooling gem" in made.refused["timm"]
    assert any(note.startswith("timm was not made: ") for note in tracker.notes)
    assert not made.path("timm").exists()
    batch = images(source, 4)
    given = torch.export.load(made.path("torch_export/model.pt2")).module()(batch)[0]
    torch.testing.assert_close(given, load_encoder(source)(batch), atol=1e-5, rtol=1e-5)


def test_a_network_of_one_image_size_is_exported_for_that_and_says_so(tmp_path: Path) -> None:
    tracker, fixed = Recorder(), VIT.model_copy(update={"options": {"dynamic_img_size": False}})
    made = handed_out(checkpoint(tmp_path, fixed), tracker, formats=["torch_export"])
    assert made.fixed == {"torch_export": "the network takes no other"}
    assert "torch_export takes images of the encoder's own size alone: the network takes no other" in tracker.notes
    assert "8x8 only" in made.path("README.md").read_text()


@pytest.mark.parametrize("name", ["torch_export", "onnx"])
def test_a_network_of_windows_is_exported_for_its_own_size_without_a_long_trace(tmp_path: Path, name: str) -> None:
    options = {"depths": [1, 2], "num_heads": [1, 2], "embed_dim": 8, "window_size": 4}
    source = checkpoint(tmp_path, Encoder(name="swin_tiny_patch4_window7_224", image_size=32, channels=1, options=options))
    assert Original(source).sizes == [(32, 32), (36, 36), (36, 40)]
    made = handed_out(source, formats=[name])
    assert made.fixed == {name: torch_archive.TOO_LONG}
    assert tried(made) == {name: {(32, 32)}}


def test_a_format_that_differs_fails_the_stage_and_names_those_that_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = timm_weights.save

    def spoilt(weights: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
        return whole({**weights, "norm.bias": weights["norm.bias"] + 0.01}, metadata)

    monkeypatch.setattr(timm_weights, "save", spoilt)
    with pytest.raises(UserError) as error:
        handed_out(checkpoint(tmp_path, VIT), formats=["timm", "torch_export"])
    assert "\n" not in str(error.value)
    assert "teacher as timm failed its check: features of " in str(error.value) or "teacher as timm failed its check: patches of " in str(error.value)
    assert str(error.value).endswith("torch_export would be right: leave timm out of the formats")
    assert not (tmp_path / ".sslflow/artifacts/model-key").exists()


class TestCompare:
    """A runtime beside the original."""

    @pytest.fixture
    def original(self, tmp_path: Path) -> Original:
        return Original(checkpoint(tmp_path, VIT))

    def test_the_largest_difference_is_stated_as_it_is_and_over_the_largest_value(self, original: Original) -> None:
        def shifted(batch: Images) -> Outputs:
            features, patches = (value.numpy() for value in original(torch.from_numpy(batch)))
            return {"features": features + np.float32(0.25), "patches": patches}

        worst = max(compare(original, shifted, original.sizes), key=lambda check: check.absolute)
        assert (worst.output, worst.absolute) == ("features", pytest.approx(0.25, rel=1e-5))
        largest = float(original(original.example(worst.batch, (worst.height, worst.width)))[0].abs().max())
        assert worst.relative == pytest.approx(0.25 / largest, rel=1e-5)

    def test_a_batch_that_became_a_constant_is_found(self, original: Original) -> None:
        def always_one(batch: Images) -> Outputs:
            return dict(zip(original.outputs, (value.numpy() for value in original(torch.from_numpy(batch[:1]))), strict=True))

        with pytest.raises(Differs, match=r"features of 2 images of 8x8 have shape \(1, 16\) and not \(2, 16\)"):
            compare(original, always_one, original.sizes)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UserError, match=r"format onnx needs onnxruntime, of the extra `export`: pip install -e '\.\[export\]' in the repository, or leave onnx out"
    ):
        handed_out(checkpoint(tmp_path, VIT), formats=["onnx"])


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, VIT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*timm \(File too large\): make room on its disk"):
            handed_out(source, formats=["timm"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
