"""A pipeline that ends in an export, run for real: the model is in MLflow's registry, and a process that knows only its name loads it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import SSLFLOW
from PIL import Image

import ssl_tasks
from schemas.artifacts import Checkpoint, Export, read

pytestmark = pytest.mark.slow

PIPELINE = """\
name: shapes
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 12, size: 24}}
  aside: {kind: ingest, source: {kind: scenes, count: 4, size: 24}}
  teacher:
    kind: pretrain
    dataset: raw
    method: simclr
    encoder: {name: vit_tiny_patch16_224, image_size: 16, patch_size: 8, width: 16, depth: 2, heads: 2}
    train: {epochs: 1, batch_size: 4}
  students:
    kind: distill
    dataset: raw
    teacher: teacher
    method: feature
    students: {small: {name: vit_tiny_patch16_224, image_size: 16, patch_size: 8, width: 8, depth: 1, heads: 2}}
    train: {epochs: 1, batch_size: 4}
  report: {kind: evaluate, dataset: raw, models: [students.small], protocols: [rank]}
  model:
    kind: export
    checkpoint: students.small
    reports: [report]
    licence: mit
    registry: {name: shapes-small, alias: production}
"""
LOADED = """
import json, sys
import mlflow, numpy as np

model = mlflow.pyfunc.load_model(sys.argv[1])
arrays = model.predict(np.load("images.npy"))
paths = model.predict(json.loads(sys.argv[2]))
np.savez("given.npz", arrays=arrays["features"], paths=paths["features"])
"""


def environ(workspace: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PREFECT_API"))}
    return {**kept, "MLFLOW_TRACKING_URI": f"sqlite:///{workspace}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def sslflow(workspace: Path, *arguments: str) -> str:
    done = subprocess.run([SSLFLOW, *arguments], cwd=workspace, env=environ(workspace), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(workspace: Path, code: str, *arguments: str) -> None:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=workspace, env=environ(workspace), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the pipeline has run; with two pictures beside."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "shapes.yaml").write_text(PIPELINE)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    np.save(folder / "images.npy", pictures)
    for name, picture in zip(("image.png", "other.png"), pictures, strict=True):
        Image.fromarray(picture).save(folder / name)
    assert "exported: " in sslflow(folder, "run", "shapes.yaml")
    return folder


@pytest.fixture(scope="module")
def export(workspace: Path) -> Export:
    artifact = read(workspace / ".sslflow/latest/shapes/model")
    assert isinstance(artifact, Export)
    return artifact


@pytest.fixture(scope="module")
def client(workspace: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{workspace}/mlflow.db", registry_uri=f"sqlite:///{workspace}/mlflow.db")


def right(workspace: Path) -> np.ndarray[Any, Any]:
    """What the student itself says of the two pictures."""
    return ssl_tasks.load(workspace / ".sslflow/latest/shapes/students.small").embed([workspace / "image.png", workspace / "other.png"]).numpy()


def test_a_fresh_process_loads_the_model_by_name_and_alias(workspace: Path) -> None:
    python(workspace, LOADED, "models:/shapes-small@production", json.dumps(["image.png", "other.png"]))
    given = np.load(workspace / "given.npz")
    np.testing.assert_allclose(given["arrays"], right(workspace), atol=1e-5)
    np.testing.assert_allclose(given["paths"], right(workspace), atol=1e-5)


def test_the_cards_code_for_the_registry_runs_as_it_stands(workspace: Path, export: Export) -> None:
    code = re.findall(r"```python\n(.*?)```", export.path("README.md").read_text(), re.DOTALL)[-1]
    assert "models:/shapes-small@production" in code
    python(workspace, code + "\nimport numpy\nnumpy.save('card.npy', outputs['features'])")
    np.testing.assert_allclose(np.load(workspace / "card.npy"), right(workspace)[:1], atol=1e-5)


def test_the_version_states_where_it_comes_from(client: Any, export: Export) -> None:
    version = client.get_model_version_by_alias("shapes-small", "production")
    student = export.parents["students.small"]
    assert version.tags["sslflow.key"] == export.key
    assert version.tags["sslflow.parent.students.small"] == student
    assert version.tags["sslflow.formats"] == "timm, onnx, torch_export"
    assert version.tags["licence"] == "mit"
    assert client.get_run(version.run_id).data.tags["sslflow.stage"] == "model"


def test_nothing_is_left_to_run_and_show_leads_down_to_the_images(workspace: Path, export: Export) -> None:
    assert json.loads(sslflow(workspace, "plan", "shapes.yaml", "--json"))["to_run"] == []
    shown = json.loads(sslflow(workspace, "show", "model", "--json"))
    assert (shown["type"], shown["formats"]) == ("Export", export.formats)
    assert {link["stage"] for link in shown["lineage"]} == {"students.small", "teacher", "raw", "report"}
    assert "timm, onnx, torch_export, each as the original" in sslflow(workspace, "show", "model")
    assert "in: " in sslflow(workspace, "show", "model", "--image", "0")


def test_the_exported_student_is_the_one_that_the_commands_hand_out_and_embed(workspace: Path) -> None:
    student = read(workspace / ".sslflow/latest/shapes/students.small")
    assert isinstance(student, Checkpoint)
    sslflow(workspace, "export", "students.small", "--format", "torch_export", "--out", "handed")
    assert (workspace / "handed/torch_export/model.pt2").is_file()
    (workspace / "photos").mkdir()
    for name in ("image.png", "other.png"):
        (workspace / "photos" / name).write_bytes((workspace / name).read_bytes())
    said = json.loads(sslflow(workspace, "embed", ".sslflow/latest/shapes/students.small", "photos", "--out", "photos.npz", "--patches", "--json"))
    assert said["images"] == 2
    np.testing.assert_allclose(np.load(workspace / "photos.npz")["features"], right(workspace), atol=1e-5)


def test_an_alias_follows_the_last_run_also_back_to_what_was_made_before(workspace: Path, client: Any, export: Export) -> None:
    """Runs last: it leaves the alias where it was."""
    sslflow(workspace, "run", "shapes.yaml", "--set", "stages.model.licence=apache-2.0", "--set", "stages.model.formats=[timm]")
    newer = client.get_model_version_by_alias("shapes-small", "production")
    assert (int(newer.version), newer.tags["licence"]) == (2, "apache-2.0")
    python(workspace, LOADED, "models:/shapes-small@production", json.dumps(["image.png", "other.png"]))
    np.testing.assert_allclose(np.load(workspace / "given.npz")["paths"], right(workspace), atol=1e-5)
    sslflow(workspace, "run", "shapes.yaml", "--force", "aside")  # the export itself is reused
    assert client.get_model_version_by_alias("shapes-small", "production").tags["sslflow.key"] == export.key
