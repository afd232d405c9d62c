"""`sslflow export` and `sslflow embed`: a model by its folder, key or name, and one clear line for a mistake."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from schemas.artifacts import Checkpoint
from schemas.errors import UserError
from workflows.engine import ledger
from workflows.engine.cli import app

sys.path.insert(0, str(Path(__file__).parents[1] / "ssl_tasks"))
from handed_out import GEM, checkpoint
from tiny_training import VIT


@pytest.fixture
def source(tmp_path: Path) -> Checkpoint:
    return checkpoint(tmp_path, VIT)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(np.full((9, 9), 40 * i, np.uint8)).save(tmp_path / f"photos/{i}.png")
    return tmp_path / "photos"


def sslflow(workspace: Path, *arguments: Any) -> tuple[int, str, str]:
    """Exit status, stdout and stderr; a mistake is raised, as the program catches it further out."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--workspace", str(workspace)])
    if isinstance(done.exception, UserError):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_model_is_exported_without_a_pipeline(tmp_path: Path, source: Checkpoint) -> None:
    out = tmp_path / "there/out"
    status, said, warned = sslflow(tmp_path, "export", source.folder, "--format", "timm", "--out", out, "--licence", "mit")
    assert (status, warned) == (0, "")
    assert said.startswith(f"{out}/timm: as the original to 0 in timm ")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == ["README.md", "checks.json", "timm/config.json", "timm/model.safetensors"]
    assert "license: mit" in (out / "README.md").read_text()
    assert f"`{source.key}`" in (out / "README.md").read_text()


@pytest.mark.parametrize("name", ["teacher-key", "teacher-k"])
def test_a_model_is_found_by_its_key_or_the_start_of_one(tmp_path: Path, source: Checkpoint, photos: Path, name: str) -> None:
    status, said, _ = sslflow(tmp_path, "embed", name, photos, "--out", tmp_path / "out.npz", "--json")
    assert status == 0
    assert json.loads(said) == {"file": str(tmp_path / "out.npz"), "images": 3, "dim": source.dim, "skipped": {}}


def test_images_that_give_no_picture_are_named_and_end_with_1(tmp_path: Path, source: Checkpoint, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    status, said, warned = sslflow(tmp_path, "embed", source.folder, photos, "--out", tmp_path / "out.parquet")
    assert status == 1
    assert said == f"{tmp_path}/out.parquet: features of 3 images, 16 numbers each\n"
    assert warned == f"left out: {photos}/bad.png gives no picture: empty\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "teacher-key", "--format", "onx", "--out", "new"], r"--format onx: no such format; did you mean 'onnx'\?"),
        (["export", "teacher-key", "--format", "zip", "--out", "new"], "--format zip: no such format; there are: timm, onnx, torch_export"),
        (["export", "teacher-key", "--format", "timm", "--out", "{tmp}/photos"], "--out .*photos is there already and not an empty folder"),
        (["export", "teacher-key", "--format", "timm", "--out", "{tmp}/photos/0.png"], "--out .*png is there already and not an empty folder"),
        (["export", "teacher-key", "--format", "timm", "--out", "{tmp}/photos/0.png/new"], r"cannot write .*new \("),
        (["export", "techer", "--format", "timm", "--out", "new"], "no run, artifact or stage 'techer'"),
        (["embed", "teacher-key", "{tmp}/photos", "--out", "{tmp}/out.csv"], r"its name must end in \.parquet or \.npz"),
    ],
)
@pytest.mark.usefixtures("source", "photos")
def test_a_mistake_is_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        sslflow(tmp_path, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("new*"))


def test_a_format_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    descriptor = checkpoint(tmp_path, GEM)
    with pytest.raises(UserError, match="teacher cannot be exported: timm is refused"):
        sslflow(tmp_path, "export", descriptor.folder, "--format", "timm", "--out", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_a_run_in_place_of_a_checkpoint_names_its_checkpoints(tmp_path: Path) -> None:
    run = ledger.Run(tmp_path, "p")
    run.stage("raw", status="done", kind="ingest", outputs={"": "a"})
    run.stage("students", status="done", kind="distill", outputs={"small": "b", "tiny": "c"})
    run.finish("done")
    with pytest.raises(UserError, match=rf"'{run.id}' is a run; name a checkpoint of it: {run.id}/students.small, {run.id}/students.tiny"):
        sslflow(tmp_path, "export", run.id, "--out", tmp_path / "out")
