"""The quickstart, end to end: real images, real training, real Prefect, MLflow and DVC, and the figures that it is to show."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FILE = "workflows/quickstart.yaml"
HEAVY = ("torch", "prefect", "mlflow", "numpy", "timm")


@dataclass(frozen=True)
class Finished:
    """The quickstart, run once for all tests of this file."""

    workspace: Path
    output: str
    seconds: float

    @property
    def report(self) -> Path:
        return self.workspace / ".sslflow/latest/digits/report"

    @property
    def scores(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Rows of the report by model and protocol."""
        table: dict[str, dict[str, dict[str, Any]]] = {}
        for row in json.loads((self.report / "results.json").read_text())["rows"]:
            table.setdefault(row["model"], {})[row["measure"]] = row
        return table


def sslflow(workspace: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_")) and k != "OMP_NUM_THREADS"}
    return subprocess.run([BIN / "sslflow", *arguments], cwd=workspace, env={**clean, **environ}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    workspace = tmp_path_factory.mktemp("quickstart")
    shutil.copytree(ROOT / "workflows", workspace / "workflows", ignore=shutil.ignore_patterns("*.py", "__pycache__", "engine"))
    shutil.copy(ROOT / "data.dvc", workspace)
    shutil.copytree(ROOT / ".dvc", workspace / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    began = time.monotonic()
    done = sslflow(workspace, "run", FILE)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(workspace, done.stdout, took)


def test_it_ends_within_six_minutes(quickstart: Finished) -> None:
    assert quickstart.seconds < 360


def test_it_ends_with_the_table_the_report_and_three_lines_that_load_a_student(quickstart: Finished) -> None:
    assert (quickstart.report / "report.html").stat().st_size > 100_000
    for told in ("students.small", "pixels", "random init", "report:", "report.html", "sslflow ui", "from ssl_tasks import load"):
        assert told in quickstart.output
    lines = quickstart.output[quickstart.output.index("from ssl_tasks") :].splitlines()[:3]
    image = next((quickstart.workspace / "data/digits/test").rglob("*.bmp"))
    code = "\n".join([lines[0], lines[1].strip(), f"assert student.embed([{str(image)!r}]).shape == (1, student.dim)"])
    done = subprocess.run([sys.executable, "-c", code], cwd=quickstart.workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_teacher_is_better_than_raw_pixels(quickstart: Finished) -> None:
    teacher, pixels = quickstart.scores["teacher"], quickstart.scores["pixels"]
    assert teacher["knn"]["value"] >= pixels["knn"]["value"]
    assert teacher["few_shot"]["value"] >= pixels["few_shot"]["value"] + 0.04


def test_the_small_student_keeps_what_its_teacher_knows_in_a_tenth_of_the_parameters(quickstart: Finished) -> None:
    scores = quickstart.scores
    small, teacher, alone = scores["students.small"], scores["teacher"], scores["small_alone"]
    assert small["knn"]["parameters"] <= teacher["knn"]["parameters"] / 10
    assert small["knn"]["value"] >= teacher["knn"]["value"] - 0.01
    assert small["few_shot"]["value"] >= alone["few_shot"]["value"] + 0.02


def test_the_distilled_vit_is_better_than_the_same_vit_alone(quickstart: Finished) -> None:
    vit, alone = quickstart.scores["students.vit"], quickstart.scores["vit_alone"]
    assert vit["knn"]["value"] > alone["knn"]["value"]
    assert vit["few_shot"]["value"] > alone["few_shot"]["value"]


def test_every_row_says_by_which_protocol_on_which_split_and_with_what_spread(quickstart: Finished) -> None:
    rows = [row for model in quickstart.scores.values() for row in model.values()]
    assert {row["version"] for row in rows} == {"knn@1", "few_shot@1", "linear@1", "rank@1"}
    assert len({row["split"] for row in rows}) == 1
    assert all(model["few_shot"]["spread"] > 0 for model in quickstart.scores.values())


def test_a_second_run_reuses_everything_in_five_seconds_and_imports_nothing_heavy(quickstart: Finished) -> None:
    began = time.monotonic()
    done = sslflow(quickstart.workspace, "run", FILE, "--json")
    took = time.monotonic() - began
    document = json.loads(done.stdout)
    assert (done.returncode, document["status"]) == (0, "nothing to do")
    assert {(s["status"], s["reason"]) for s in document["stages"].values()} == {("reused", "made already: same config, same inputs")}
    assert took < 5
    imported = sslflow(quickstart.workspace, "run", FILE, PYTHONPROFILEIMPORTTIME="1").stderr
    modules = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in imported.splitlines() if line.startswith("import time:")}
    assert "schemas" in modules
    assert not modules & set(HEAVY)


def test_changing_a_protocol_reruns_the_report_only(quickstart: Finished) -> None:
    done = sslflow(quickstart.workspace, "run", FILE, "--set", "stages.report.protocols=[rank]", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert {n for n, s in document["stages"].items() if s["status"] == "done"} == {"report"}
    assert {n for n, s in document["stages"].items() if s["status"] == "reused"} == set(document["stages"]) - {"report"}


def test_other_teacher_epochs_rerun_the_teacher_and_what_depends_on_it(quickstart: Finished) -> None:
    document = json.loads(sslflow(quickstart.workspace, "plan", FILE, "--set", "stages.teacher.train.epochs=5", "--json").stdout)
    assert document["to_run"] == ["teacher", "students", "report"]
    reasons = {s["stage"]: s["reason"] for s in document["stages"]}
    assert reasons["teacher"] == "train.epochs 60.0 -> 5.0"
    assert "input teacher changed" in reasons["students"]


def test_mlflow_holds_the_execution_and_each_stage_with_its_data_version(quickstart: Finished) -> None:
    code = """
import json, mlflow
client = mlflow.MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("digits")
runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
print(json.dumps([{"name": r.info.run_name, "status": r.info.status, "parent": r.data.tags.get("mlflow.parentRunId"), "params": r.data.params,
  "metrics": r.data.metrics, "tags": r.data.tags, "inputs": [d.dataset.digest for d in r.inputs.dataset_inputs]} for r in runs]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=quickstart.workspace, capture_output=True, text=True, check=False)
    runs = json.loads(done.stdout)
    first = next(r for r in runs if r["parent"] is None)
    version = (quickstart.workspace / "data.dvc").read_text().split("md5: ")[1].split()[0]
    assert first["status"] == "FINISHED"
    assert first["tags"]["data.version"] == version
    assert first["params"]["stages.teacher.train.epochs"] == "60.0"
    teacher = next(r for r in runs if r["name"] == "teacher")
    assert teacher["status"] == "FINISHED"
    assert "train/loss" in teacher["metrics"]
    clean = json.loads((quickstart.workspace / ".sslflow/latest/digits/clean/artifact.json").read_text())
    assert teacher["inputs"] == [clean["files"]["manifest.parquet"][:36]]
    assert {run["tags"]["data.version"] for run in runs} == {version}


def test_show_explains_a_student_down_to_the_data(quickstart: Finished) -> None:
    text = sslflow(quickstart.workspace, "show", "students.small").stdout
    for link in ("students.small", "teacher", "clean", "raw", "data.version"):
        assert link in text
    document = json.loads(sslflow(quickstart.workspace, "show", "report", "--json").stdout)
    assert {"teacher", "students.small", "clean", "raw"} <= {a["stage"] for a in document["lineage"]}
    runs = json.loads(sslflow(quickstart.workspace, "runs", "--json").stdout)
    assert runs[-1]["status"] == "done"
    assert sslflow(quickstart.workspace, "show", runs[-1]["id"]).returncode == 0


def test_changed_data_is_refused_with_both_hashes(quickstart: Finished) -> None:
    image = next((quickstart.workspace / "data/digits/train").rglob("*.bmp"))
    before = image.read_bytes()
    image.chmod(0o644)
    image.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        done = sslflow(quickstart.workspace, "run", FILE)
    finally:
        image.write_bytes(before)
    version = (quickstart.workspace / "data.dvc").read_text().split("md5: ")[1].split()[0]
    assert done.returncode == 2
    assert version in done.stderr
    assert done.stderr.count(".dir") >= 2
    assert "Traceback" not in done.stderr


def readme_block(containing: str) -> list[str]:
    """Commands of the README's shell block that contains a word, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    (block,) = [b for b in blocks if containing in b]
    return [line.split("  #")[0].strip() for line in block.splitlines()]


def test_the_commands_of_the_readme_work(quickstart: Finished) -> None:
    commands = readme_block("sslflow methods")
    assert len(commands) > 5
    for command in commands:
        done = sslflow(quickstart.workspace, *shlex.split(command)[1:])
        assert done.returncode == 0, command + done.stdout + done.stderr


def test_the_python_of_the_readme_works(quickstart: Finished) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    code = f"from pathlib import Path\nlist_of_image_paths = sorted(Path('data').rglob('*.bmp'))[:3]\n{block}\nassert features.shape == (3, student.dim)"
    done = subprocess.run([sys.executable, "-c", code], cwd=quickstart.workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_path_to_a_deployment_in_the_readme_works_and_its_run_shows_in_mlflow(quickstart: Finished, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = {"PREFECT_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "DO_NOT_TRACK": "true"}
    server = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_API_PORT": str(port), "PREFECT_WORKER_QUERY_SECONDS": "2"}
    environment = {**os.environ, **home, **server, "PATH": f"{BIN}:{os.environ['PATH']}"}
    planned = json.loads(sslflow(quickstart.workspace, "plan", FILE, "--json").stdout)["stages"]
    shutil.rmtree(quickstart.workspace / ".sslflow/artifacts" / planned[-1]["key"])  # the report: so that there is something to do
    before = tracked_executions(quickstart.workspace)
    background = []
    try:
        for command in readme_block("prefect server start"):
            line = shlex.split(command)
            with (tmp_path / "output.txt").open("a") as output:
                if line[-1] == "&":
                    background.append(
                        subprocess.Popen(line[:-1], cwd=quickstart.workspace, env=environment, stdout=output, stderr=output, start_new_session=True)
                    )
                else:
                    done = subprocess.run(line, cwd=quickstart.workspace, env=environment, stdout=output, stderr=output, check=False)
                    assert done.returncode == 0, command + (tmp_path / "output.txt").read_text()
            if "server start" in command:
                wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), 90)
        wait_until(lambda: tracked_executions(quickstart.workspace) == [*before, "FINISHED"], 180)
    finally:
        for process in reversed(background):
            stop(process)
    assert (quickstart.report / "report.html").exists()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a Prefect process: one that inherited an ignored SIGINT does not end at the first SIGTERM, which it turns into that."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
            return


def answers(url: str) -> bool:
    try:
        return bool(urlopen(url, timeout=5).status == 200)
    except OSError:
        return False


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(1)


def tracked_executions(workspace: Path) -> list[str]:
    """How each execution in the MLflow store ended, oldest first."""
    query = "select status from runs where run_uuid not in (select run_uuid from tags where key = 'mlflow.parentRunId') order by start_time"
    with sqlite3.connect(workspace / "mlflow.db") as store:
        return [status for (status,) in store.execute(query)]
