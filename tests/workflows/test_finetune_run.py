"""A pipeline with a finetune stage, through the real command line: planned, run, reused, shown."""

import json
import subprocess
from pathlib import Path

import pytest
from command_line import SHAPES, SSLFLOW, environment

from schemas.artifacts import Checkpoint, read
from ssl_tasks.checkpoints import load_classifier

pytestmark = pytest.mark.slow

AFTERWARDS = """\
    train: {epochs: 2, batch_size: 32, monitors: 2}
  tuned:
    kind: finetune
    dataset: raw
    checkpoint: teacher
    strategy: {kind: lp_ft, probe: 0.5}
    labels: 0.5
    train: {epochs: 4, batch_size: 16, monitors: 2, warmup: 0.1}
  students:
    kind: distill
    dataset: raw
    teacher: tuned
    method: hinton
    students: {small: {name: resnetv2_18, image_size: 16, stem: half, options: {layers: [1], channels: [8], stem_chs: 8}}}
    train: {epochs: 2, batch_size: 32, monitors: 2}
"""


def sslflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SSLFLOW, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the pipeline was run."""
    made = tmp_path_factory.mktemp("shapes")
    (made / "shapes.yaml").write_text(SHAPES + AFTERWARDS)
    planned = sslflow(made, "plan", "shapes.yaml", "--json")
    assert planned.returncode == 0, planned.stderr
    (made / "plan.json").write_text(planned.stdout)
    done = sslflow(made, "run", "shapes.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_the_plan_tells_the_size_of_a_finetune_stage(folder: Path) -> None:
    stages = {stage["stage"]: stage for stage in json.loads((folder / "plan.json").read_text())["stages"]}
    assert stages["tuned"]["status"] == "waits"
    assert stages["tuned"]["parameters"] == stages["teacher"]["parameters"] != stages["students"]["parameters"]
    lines = sslflow(folder, "plan", "shapes.yaml").stdout.splitlines()
    assert next(line for line in lines if line.startswith("tuned")).split()[-2:] == ["≈8", "≈128"], "half of 64 images, 16 at a time, four times"


def test_a_run_makes_a_classifier_that_teaches_class_scores(folder: Path) -> None:
    latest = folder / ".sslflow/latest/shapes"
    tuned, student = read(latest / "tuned"), read(latest / "students.small")
    assert isinstance(tuned, Checkpoint)
    assert isinstance(student, Checkpoint)
    assert len(tuned.classes) >= 2
    assert student.classes == tuned.classes
    classifier = load_classifier(tuned)
    assert classifier is not None
    assert classifier.classes == tuned.classes
    assert tuned.metrics["labelled_images"] == 33


def test_a_second_run_has_nothing_to_do_and_another_strategy_runs_what_follows(folder: Path) -> None:
    again = json.loads(sslflow(folder, "run", "shapes.yaml", "--json").stdout)
    assert again["status"] == "nothing to do"
    planned = json.loads(sslflow(folder, "plan", "shapes.yaml", "--set", "stages.tuned.strategy=linear", "--json").stdout)
    assert planned["to_run"] == ["tuned", "students"]


def test_show_names_what_a_classifier_was_made_from(folder: Path) -> None:
    document = json.loads(sslflow(folder, "show", "tuned", "--json").stdout)
    assert {"teacher", "raw"} == {link["stage"] for link in document["lineage"]}
