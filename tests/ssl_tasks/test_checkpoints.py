"""Checkpoints: weights come back as they were written, and nothing damaged is ever loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import CONV, VIT, stripes, weights

import ssl_tasks
from schemas.artifacts import Checkpoint, Dataset
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from schemas.methods import SimCLR
from schemas.stages import Pretrain
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import WEIGHTS, load_encoder, load_training, save_encoder, save_training
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features

STATE: dict[str, Any] = {"tensor": torch.arange(4.0), "nested": [{"number": 0.1}, "text"]}


def sealed(workspace: Path, encoder: TimmEncoder) -> Checkpoint:
    stage = Pretrain(dataset="data", method=SimCLR(), encoder=encoder.config)
    job = Job(name="teacher", pipeline="p", stage=stage, key="k", inputs={"data": "d"}, outputs={"": "key"}, workspace=workspace)
    folder = artifacts.draft(job)
    save_encoder(folder, encoder)
    config = encoder.config.model_dump()
    artifact = artifacts.seal(job, folder, encoder=config, mean=[0.5], std=[0.5], dim=encoder.dim, exported="encoder")
    assert isinstance(artifact, Checkpoint)
    return artifact


@pytest.mark.parametrize("config", [CONV, VIT], ids=["conv", "vit"])
def test_an_encoder_comes_back_as_it_was_saved(tmp_path: Path, config: Encoder) -> None:
    encoder = TimmEncoder(config)
    loaded = load_encoder(sealed(tmp_path, encoder))
    assert weights(loaded) == weights(encoder)
    assert not any(part.training for part in loaded.modules())


@pytest.mark.parametrize("damage", ["cut short", "altered", "missing"])
def test_damaged_weights_are_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    artifact = sealed(tmp_path, TimmEncoder(CONV))
    path = artifact.path(WEIGHTS)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-8] if damage == "cut short" else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"model.safetensors (is missing|was cut short or altered).*makes stage 'teacher' anew"):
        load_encoder(artifact)


def test_three_lines_load_a_model_and_embed_files(tmp_path: Path) -> None:
    encoder = TimmEncoder(CONV).eval()
    artifact = sealed(tmp_path, encoder)
    images = stripes(3, side=9)[0]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0]).save(path)

    model = ssl_tasks.load(artifact.folder)
    embedded = model.embed([str(path) for path in paths])

    assert embedded.shape == (3, model.dim)
    np.testing.assert_allclose(embedded.numpy(), features(encoder, images, [0.5], [0.5]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.embed(paths, batch_size=2), embedded)
    assert model.embed([]).shape == (0, model.dim)


def test_images_of_different_sizes_and_colours_are_embedded_together(tmp_path: Path) -> None:
    model = ssl_tasks.load(sealed(tmp_path, TimmEncoder(CONV)).folder)
    Image.new("RGB", (300, 200), "red").save(tmp_path / "large.jpg")
    Image.new("L", (5, 7), 90).save(tmp_path / "small.png")
    assert model.embed([tmp_path / "large.jpg", tmp_path / "small.png"]).isfinite().all()


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    model = ssl_tasks.load(sealed(tmp_path, TimmEncoder(CONV)).folder)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.png gives no picture: wrong type"):
        model.embed([tmp_path / "text.png"])


def test_what_is_no_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no artifact: it has no artifact\.json"):
        ssl_tasks.load(tmp_path)
    stated = {"key": "k", "stage": "s", "kind": "ingest", "config": {}, "parents": {}, "files": {}, "sizes": {}}
    (tmp_path / "artifact.json").write_text(Dataset.model_validate({**stated, "rows": 1, "kept": 1}).model_dump_json())
    with pytest.raises(UserError, match="holds a Dataset, wanted a Checkpoint"):
        ssl_tasks.load(tmp_path)


def test_the_package_imports_without_torch() -> None:
    code = "import sys, ssl_tasks; assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = ssl_tasks.lod


def test_the_last_two_checkpoints_of_a_training_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save_training(tmp_path, step, {**STATE, "step": step}, "me")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000010.pt", "step-000000015.pt"]
    state, passed_over = load_training(tmp_path, "me")
    assert passed_over == []
    assert state is not None
    assert state["step"] == 15
    assert state["nested"] == STATE["nested"]
    assert torch.equal(state["tensor"], STATE["tensor"])


@pytest.mark.parametrize("damage", ["cut short", "one bit"])
def test_a_damaged_checkpoint_of_a_training_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_training(tmp_path, 5, {**STATE, "step": 5}, "me")
    save_training(tmp_path, 10, {"tensor": torch.zeros(1000), "step": 10}, "me")
    path = tmp_path / "step-000000010.pt"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole if damage == "one bit" else whole[: len(whole) // 2])
    state, passed_over = load_training(tmp_path, "me")
    assert state is not None
    assert state["step"] == 5
    assert passed_over == ["checkpoint step-000000010.pt is damaged"]


def test_a_checkpoint_is_not_read_by_running_what_it_says(tmp_path: Path) -> None:
    """A pickle may name any function to call; the loader refuses it, and the training starts anew."""
    torch.save({"identity": "me", "path": Path("x")}, tmp_path / "step-000000005.pt")
    assert load_training(tmp_path, "me") == (None, ["checkpoint step-000000005.pt is damaged"])


def test_nothing_is_found_where_nothing_was_saved(tmp_path: Path) -> None:
    assert load_training(tmp_path / "none", "me") == (None, [])
