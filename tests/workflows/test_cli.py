"""The command line as a user meets it: each test starts the real program."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from command_line import SSLFLOW
from typer.testing import CliRunner

from workflows.engine.cli import app
from workflows.engine.ledger import Exclusive

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """\
name: shapes
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 8, size: 16}}
  clean: {kind: curate, dataset: raw, steps: [integrity]}
  teacher:
    kind: pretrain
    dataset: clean
    method: simclr
    encoder: {name: resnet18, image_size: 16, stem: half}
    train: {epochs: 2, batch_size: 4}
"""


def sslflow(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SSLFLOW, *arguments], cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, check=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "shapes.yaml").write_text(PIPELINE)
    return tmp_path


def test_validate_accepts_a_good_file(workspace: Path) -> None:
    done = sslflow("validate", "shapes.yaml", cwd=workspace)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "shapes.yaml: valid, 3 stages: raw -> clean -> teacher\n"


def test_validate_and_plan_warn_of_what_is_unlikely_to_work_and_accept_it(workspace: Path) -> None:
    (workspace / "shapes.yaml").write_text(PIPELINE.replace(", stem: half", ""))
    warning = "shapes.yaml:9:5 stages.teacher.encoder: an ImageNet stem leaves 1x1 positions of 16 px"
    for command in ("validate", "plan"):
        done = sslflow(command, "shapes.yaml", cwd=workspace)
        assert done.returncode == 0
        assert done.stderr.startswith(f"warning: {warning}")
        document = json.loads(sslflow(command, "shapes.yaml", "--json", cwd=workspace).stdout)
        assert [(w["line"], w["path"]) for w in document["warnings"]] == [(9, "stages.teacher.encoder")]


def test_validate_shows_every_fault_of_every_file_and_no_traceback(workspace: Path) -> None:
    (workspace / "bad.yaml").write_text(PIPELINE.replace("dataset: clean", "dataset: cleen").replace("epochs", "epoch"))
    done = sslflow("validate", "shapes.yaml", "bad.yaml", "absent.yaml", cwd=workspace)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "bad.yaml:7:14 stages.teacher.dataset: no stage 'cleen'; did you mean 'clean'?",
        "bad.yaml:10:13 stages.teacher.train.epoch: unknown key; did you mean 'epochs'?",
        "absent.yaml: cannot be read: no such file or directory",
    ]


def test_validate_as_json_is_one_document(workspace: Path) -> None:
    (workspace / "bad.yaml").write_text(PIPELINE.replace("epochs: 2", "epochs: -2"))
    done = sslflow("validate", "bad.yaml", "--json", cwd=workspace)
    document = json.loads(done.stdout)
    assert done.returncode == 2
    assert document["valid"] is False
    assert [(p["file"], p["line"], p["column"], p["path"]) for p in document["problems"]] == [("bad.yaml", 10, 21, "stages.teacher.train.epochs")]


def test_validate_takes_less_than_a_second_and_a_half(workspace: Path) -> None:
    took = []
    for _ in range(3):
        began = time.monotonic()
        sslflow("validate", "shapes.yaml", cwd=workspace)
        took.append(time.monotonic() - began)
    assert min(took) < 1.5


def test_plan_says_what_runs_and_why_with_its_size(workspace: Path) -> None:
    done = sslflow("plan", "shapes.yaml", "--json", cwd=workspace)
    plan = json.loads(done.stdout)
    assert (done.returncode, plan["to_run"]) == (0, ["raw", "clean", "teacher"])
    raw, clean, teacher = plan["stages"]
    assert (raw["status"], raw["reason"]) == ("run", "not made yet")
    assert (clean["status"], clean["parents"]) == ("waits", ["raw"])
    assert teacher["parameters"] == "11,168,832"


def test_plan_for_a_person_is_a_table(workspace: Path) -> None:
    done = sslflow("plan", "shapes.yaml", cwd=workspace)
    assert "shapes: 3 of 3 stages to run" in done.stdout
    assert "waits" in done.stdout


def test_plan_writes_no_artifact_and_starts_no_run(workspace: Path) -> None:
    sslflow("plan", "shapes.yaml", cwd=workspace)
    assert not (workspace / ".sslflow/artifacts").exists()
    assert not (workspace / ".sslflow/runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent.yaml"], "absent.yaml: cannot be read: no such file or directory"),
        (["run", "shapes.yaml", "--from", "techer"], "no stage 'techer'"),
        (["run", "shapes.yaml", "--set", "stages.teacher.train.epoch=1"], "did you mean 'epochs'?"),
        (["plan", "shapes.yaml", "--from", "teacher"], "cannot start from 'teacher'"),
        (["show", "nothing"], "no run, artifact or stage 'nothing'"),
        (["frobnicate"], "No such command"),
    ],
)
def test_an_invalid_request_ends_with_2_and_says_why(workspace: Path, arguments: list[str], message: str) -> None:
    done = sslflow(*arguments, cwd=workspace)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_tracking_server_is_said_before_any_work(workspace: Path) -> None:
    done = sslflow("run", "shapes.yaml", cwd=workspace, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr
    assert not (workspace / ".sslflow/artifacts").exists()


def test_methods_lists_every_kind_with_its_parameters(workspace: Path) -> None:
    entries = json.loads(sslflow("methods", "--json", cwd=workspace).stdout)
    kinds = {e["kind"] for e in entries}
    assert {"simclr", "vicreg", "dino", "feature", "knn", "few_shot", "linear", "rank", "integrity", "deduplicate", "balance"} <= kinds
    simclr = next(e for e in entries if e["kind"] == "simclr")
    assert simclr["paper"] == "https://arxiv.org/abs/2002.05709"
    assert "temperature" in {p["name"] for p in simclr["parameters"]}
    assert "simclr" in sslflow("methods", cwd=workspace).stdout


def test_methods_advises_which_one_to_choose(workspace: Path) -> None:
    told = json.loads(sslflow("methods", "--advise", "--images", "9000", "--encoder", "resnet18", "--task", "global", "--json", cwd=workspace).stdout)
    assert told[0]["what"] == "swav"
    assert "Imagenette" in told[0]["why"]
    assert "swav" in sslflow("methods", "--advise", "--images", "9000", "--encoder", "resnet18", "--task", "global", cwd=workspace).stdout
    wrong = sslflow("methods", "--advise", "--encoder", "resnet5", cwd=workspace)
    assert (wrong.returncode, wrong.stderr) == (2, "--encoder 'resnet5': timm has no such model; did you mean 'resnet50'?\n")


def test_schema_is_the_committed_one(workspace: Path) -> None:
    assert json.loads(sslflow("schema", cwd=workspace).stdout) == json.loads((ROOT / "schemas/pipeline.schema.json").read_text())


COMMANDS = ("validate", "plan", "run", "runs", "show", "methods", "schema", "deploy", "up", "down", "ui", "export", "embed")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"Example: sslflow {command}" in shown.output


def test_help_lists_every_command() -> None:
    assert all(command in CliRunner().invoke(app, ["--help"]).output for command in COMMANDS)


def test_no_runs_yet_is_no_error(tmp_path: Path) -> None:
    assert "no runs yet" in sslflow("runs", cwd=tmp_path).stdout
    assert json.loads(sslflow("runs", "--json", cwd=tmp_path).stdout) == []


def test_a_workspace_that_cannot_be_written_is_said_before_any_work(workspace: Path) -> None:
    (workspace / ".sslflow").write_text("a file where a folder belongs")
    done = sslflow("run", "shapes.yaml", cwd=workspace)
    assert done.returncode == 2
    assert done.stderr.startswith(f"cannot write to {workspace}/.sslflow: ")
    assert "Traceback" not in done.stderr


def test_two_runs_of_one_pipeline_do_not_write_over_each_other(workspace: Path) -> None:
    with Exclusive(workspace, "shapes"):
        done = sslflow("run", "shapes.yaml", cwd=workspace)
    assert done.returncode == 2
    assert f"running already in this workspace (process {os.getpid()})" in done.stderr


def test_names_of_matrix_stages_are_shown_whole(workspace: Path) -> None:
    (workspace / "shapes.yaml").write_text(PIPELINE.replace("    method: simclr\n", "    method: simclr\n    matrix: {seed: [0, 1]}\n"))
    shown = sslflow("plan", "shapes.yaml", cwd=workspace).stdout
    assert "teacher[seed=0]" in shown
    assert "teacher[seed=1]" in shown
