"""How a run appears in MLflow, on a real SQLite store; with a real server in the tests marked slow."""

import hashlib
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import UserError
from schemas.pipeline import Pipeline
from ssl_tasks.artifacts import draft, seal
from workflows.engine import mlflow_store, mlflow_tracker
from workflows.engine.mlflow_spool import Operation, Sender, Spool, Unreachable
from workflows.engine.mlflow_tracker import Execution, StageRun
from workflows.engine.mlflow_values import clean, params
from workflows.engine.reuse import Plan, make_plan

VERSION = "0123456789abcdef0123456789abcdef.dir"
RESNET = {"name": "resnet10t", "image_size": 32}


def plan_of(workspace: Path, name: str = "digits", epochs: int = 3) -> Plan:
    stages = {
        "raw": {"kind": "ingest", "source": {"kind": "digits"}},
        "teacher[seed=0]": {"kind": "pretrain", "dataset": "raw", "method": {"kind": "simclr"}, "encoder": RESNET, "train": {"epochs": epochs}},
        "students": {
            "kind": "distill",
            "dataset": "raw",
            "teacher": "teacher[seed=0]",
            "method": {"kind": "feature"},
            "students": {"small": RESNET, "tiny": {**RESNET, "image_size": 64}},
        },
        "report": {"kind": "evaluate", "dataset": "raw", "models": ["students.small"], "protocols": [{"kind": "knn"}]},
    }
    plan = make_plan(Pipeline.model_validate({"name": name, "stages": stages}), workspace, {"raw": VERSION}, data_version=VERSION)
    if not plan.artifacts(plan.stages["raw"]):
        make_artifacts(plan, "raw")
    return plan


def begin(plan: Plan, run_id: str, say: Callable[[str], None] = print) -> Execution:
    spool = plan.workspace / ".sslflow/runs" / run_id / "spool.jsonl"
    facts = {"git_commit": "0a1b2c-dirty", "torch": "2.11"}
    return Execution(plan.workspace, plan.pipeline, "name: digits  # as written", facts, VERSION, run_id, spool, say)


def stage(execution: Execution, plan: Plan, name: str) -> StageRun:
    return execution.stage(plan.stages[name], plan.job(plan.stages[name]))


def log(run: StageRun, step: int, **values: float) -> None:
    run.follow({"event": "metrics", "time": 1e9 + step, "step": step, "values": values})


def make_artifacts(plan: Plan, name: str) -> dict[str, Any]:
    """What the stage would make, with payloads of a few bytes."""
    planned = plan.stages[name]
    job, made = plan.job(planned), {}
    for output in job.outputs:
        folder = draft(job, output)
        fields: dict[str, Any] = {"metrics": {"knn@1": 0.98}}
        if planned.stage.makes == "Report":
            (folder / "figures").mkdir()
            for file in ("report.html", "results.json", "figures/map.png"):
                (folder / file).write_text("{}")
        elif planned.stage.makes == "Dataset":
            (folder / "manifest.parquet").write_text("rows")
            fields |= {"rows": 4, "kept": 3}
        else:
            curve = [{"step": step, "train/loss": 1 / (step + 1)} for step in range(5)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
            fields |= {"encoder": RESNET, "mean": [0.5], "std": [0.5], "dim": 512, "exported": "student encoder"}
        made[output] = seal(job, folder, output, **fields)
    return made


class Reader:
    """Reads back what is in a store."""

    def __init__(self, uri: str) -> None:
        mlflow_store.set_environment()
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def runs(self, execution: str) -> dict[str, Any]:
        """The runs of one execution by the stage's name; the parent's is empty."""
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        found = self.client.search_runs(experiments, f"tags.`sslflow.execution` = '{execution}'")
        return {r.data.tags.get("sslflow.stage", ""): r for r in found}

    def history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, metric))

    def files(self, run: Any, folder: str = "") -> list[str]:
        return sorted(f.path for f in self.client.list_artifacts(run.info.run_id, folder or None))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One workspace for the module: making an MLflow database takes two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tmp_path_factory.mktemp("a workspace")


@pytest.fixture(scope="module")
def reader(workspace: Path) -> Reader:
    return Reader(mlflow_tracker.tracking_uri(workspace))


@pytest.fixture(scope="module")
def first(workspace: Path, reader: Reader) -> SimpleNamespace:
    """A whole execution: a teacher, students and a report."""
    plan = plan_of(workspace)
    execution = begin(plan, "first")
    execution.tag("prefect.flow_run", "http://127.0.0.1:4200/runs/1")
    execution.reused(plan.stages["raw"], plan.artifacts(plan.stages["raw"]))
    teacher = stage(execution, plan, "teacher[seed=0]")
    teacher.follow({"event": "params", "time": 1e9, "values": {"parameters/encoder": 4_900_000}})
    teacher.follow({"event": "note", "time": 1e9, "message": "resumed at step 10"})
    for step in range(2500):
        log(teacher, step, **{"train/loss": 1 / (step + 1), "monitor[rank]": 1.0})
    log(teacher, 2500, **{"train/loss": math.inf})
    log(teacher, 2501, **{"train/loss": math.nan})
    for second in range(31):
        event = {"event": "progress", "time": 1e9 + second, "step": second, "steps": 31, "values": {"loss": 1.0, "images_per_second": 900.0}}
        teacher.follow(event)
    teacher.end("done", make_artifacts(plan, "teacher[seed=0]"))
    for name in ("students", "report"):
        stage(execution, plan, name).end("done", make_artifacts(plan, name))
    assert execution.finish("done", {"report/students.small/knn@1": 0.98})
    return SimpleNamespace(plan=plan, runs=reader.runs("first"), url=execution.url)


def test_the_store_is_a_file_of_the_workspace_unless_the_environment_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_tracker.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert mlflow_tracker.tracking_uri(tmp_path) == "http://tracking:5000"


def test_importing_the_tracker_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, workflows.engine.mlflow_tracker, workflows.engine.mlflow_ui; print(sorted({'mlflow', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_does_not_answer_is_refused_with_its_address() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"no MLflow server answers at {uri} .*refused.*correct MLFLOW_TRACKING_URI"):
        mlflow_tracker.check(uri)


@pytest.mark.slow
def test_a_server_that_accepts_and_never_answers_is_refused_in_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(UserError, match="no MLflow server answers"):
            mlflow_tracker.check(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 6


@pytest.mark.parametrize(("status", "message"), [(200, "is not an MLflow server"), (401, "set MLFLOW_TRACKING_USERNAME"), (500, "answers 500")])
def test_another_server_at_the_address_is_refused(status: int, message: str) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", "text/html")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(UserError, match=message):
            mlflow_tracker.check(f"http://127.0.0.1:{server.server_port}")


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "htp://tracking:5000"])
def test_an_address_that_runs_cannot_be_tracked_to_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="not an address that MLflow can track to; use http"):
        mlflow_tracker.check(uri)


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, and longer than the header of one" * 20)
    with pytest.raises(UserError, match=r"mlflow\.db: file is not a database; move it away"):
        mlflow_tracker.check(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_workspace_without_a_database_and_one_with_a_database_pass_the_check(workspace: Path, tmp_path: Path, first: SimpleNamespace) -> None:
    mlflow_tracker.check(mlflow_tracker.tracking_uri(tmp_path))
    mlflow_tracker.check(mlflow_tracker.tracking_uri(workspace))
    assert first.url == "sslflow ui"


def test_the_parent_run_states_what_was_run_with_what(first: SimpleNamespace, reader: Reader) -> None:
    parent = first.runs[""]
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "first"
    assert parent.data.params["stages.teacher-seed-0.train.epochs"] == "3.0"
    assert parent.data.tags["data.version"] == VERSION
    assert parent.data.tags["git.commit"] == "0a1b2c-dirty"
    assert parent.data.tags["prefect.flow_run"] == "http://127.0.0.1:4200/runs/1"
    assert parent.data.metrics == {"report/students.small/knn-1": 0.98}
    assert reader.files(parent) == ["pipeline.resolved.yaml", "pipeline.yaml"]
    assert Path(reader.client.download_artifacts(parent.info.run_id, "pipeline.yaml")).read_text() == "name: digits  # as written"


def test_a_stage_is_a_child_run_with_its_config_key_and_data(first: SimpleNamespace) -> None:
    teacher = first.runs["teacher[seed=0]"]
    planned = first.plan.stages["teacher[seed=0]"]
    assert teacher.info.status == "FINISHED"
    assert teacher.data.tags["mlflow.parentRunId"] == first.runs[""].info.run_id
    assert teacher.data.tags["sslflow.key"] == planned.key
    assert teacher.data.tags["sslflow.attempt"] == "1"
    assert teacher.data.tags["mlflow.note.content"] == "resumed at step 10"
    assert teacher.data.params["train.epochs"] == "3.0"
    assert teacher.data.params["parameters/encoder"] == "4900000"
    data = teacher.inputs.dataset_inputs[0]
    manifest = hashlib.sha256(b"rows").hexdigest()
    assert (data.dataset.name, data.dataset.digest) == ("raw", manifest[:36])
    tags = {"mlflow.data.context": "train", "manifest": planned.inputs["raw"], "manifest.sha256": manifest, "data.version": VERSION}
    assert {t.key: t.value for t in data.tags} == tags


def test_every_stage_is_tagged_with_the_version_of_the_raw_data_and_a_dataset_with_its_manifest(first: SimpleNamespace) -> None:
    assert {run.data.tags["data.version"] for run in first.runs.values()} == {VERSION}
    assert first.runs["raw"].data.tags["manifest.sha256"] == hashlib.sha256(b"rows").hexdigest()


def test_all_points_of_a_metric_arrive_and_infinite_ones_as_nan(first: SimpleNamespace, reader: Reader) -> None:
    loss = reader.history(first.runs["teacher[seed=0]"], "train/loss")
    assert loss[:2500] == [(step, 1 / (step + 1)) for step in range(2500)]
    assert [step for step, value in loss[2500:] if math.isnan(value)] == [2500, 2501]
    assert len(reader.history(first.runs["teacher[seed=0]"], "monitor-rank")) == 2500


def test_speed_is_recorded_once_in_ten_seconds(first: SimpleNamespace, reader: Reader) -> None:
    assert reader.history(first.runs["teacher[seed=0]"], "images_per_second") == [(0, 900.0), (10, 900.0), (20, 900.0), (30, 900.0)]


def test_metrics_of_students_carry_their_names(first: SimpleNamespace) -> None:
    assert first.runs["students"].data.metrics == {"small/knn-1": 0.98, "tiny/knn-1": 0.98}
    assert {"sslflow.key.small", "sslflow.key.tiny"} <= set(first.runs["students"].data.tags)


def test_a_report_is_kept_with_its_figures(first: SimpleNamespace, reader: Reader) -> None:
    assert reader.files(first.runs["report"]) == ["figures", "report.html", "results.json"]
    assert reader.files(first.runs["report"], "figures") == ["figures/map.png"]


def test_a_distilled_student_is_a_registered_model_with_lineage(first: SimpleNamespace, reader: Reader) -> None:
    (version,) = reader.client.search_model_versions("name = 'digits-students-small'")
    planned = first.plan.stages["students"]
    assert version.run_id == first.runs["students"].info.run_id
    assert version.tags["sslflow.key"] == planned.outputs["small"]
    assert version.tags["sslflow.parent.teacher-seed-0"] == planned.inputs["teacher[seed=0]"]
    assert not reader.client.search_model_versions("name LIKE '%teacher%'")
    assert version.source == f"{first.runs['students'].info.artifact_uri}/small"
    assert reader.files(first.runs["students"], "small") == ["small/artifact.json", "small/metrics.jsonl"]


def test_a_reused_stage_has_its_numbers_and_a_link_to_the_run_that_made_it(first: SimpleNamespace, reader: Reader, workspace: Path) -> None:
    plan = plan_of(workspace)
    execution = begin(plan, "second")
    for name in ("teacher[seed=0]", "students"):
        assert plan.stages[name].status == "reused"
        execution.reused(plan.stages[name], plan.artifacts(plan.stages[name]))
    assert execution.finish("done", {})
    runs = reader.runs("second")
    for name in ("teacher[seed=0]", "students"):
        assert runs[name].info.status == "FINISHED"
        assert runs[name].data.tags["sslflow.reused"] == "true"
        assert runs[name].data.tags["sslflow.reused_from"] == first.runs[name].info.run_id
        assert first.runs[name].info.run_id in runs[name].data.tags["mlflow.note.content"]
    assert runs["students"].data.metrics["small/knn-1"] == 0.98
    assert runs["teacher[seed=0]"].data.params["train.epochs"] == "3.0"
    assert reader.history(runs["teacher[seed=0]"], "train/loss") == [(step, 1 / (step + 1)) for step in range(5)]


def test_comparing_two_executions_shows_only_what_differed(first: SimpleNamespace, reader: Reader, workspace: Path) -> None:
    execution = begin(plan_of(workspace, epochs=4), "longer")
    execution.finish("cancelled", {})
    other = reader.runs("longer")[""]
    assert other.info.status == "KILLED"
    assert set(other.data.params.items()) ^ set(first.runs[""].data.params.items()) == {
        ("stages.teacher-seed-0.train.epochs", "3.0"),
        ("stages.teacher-seed-0.train.epochs", "4.0"),
    }
    assert other.data.tags["sslflow.config_hash"] != first.runs[""].data.tags["sslflow.config_hash"]


def test_a_further_try_of_a_stage_goes_on_in_the_same_run(reader: Reader, workspace: Path) -> None:
    plan = plan_of(workspace, "retried", epochs=5)
    execution = begin(plan, "retried")
    failed = stage(execution, plan, "teacher[seed=0]")
    log(failed, 0, loss=1.0)
    failed.end("failed", {}, "killed by signal 9 (out of memory?)")
    again = stage(execution, plan, "teacher[seed=0]")
    log(again, 1, loss=0.5)
    again.end("done", {})
    stage(execution, plan, "students").end("failed", {}, "collapsed")
    stage(execution, plan, "report")
    execution.finish("failed", {})
    runs = reader.runs("retried")
    teacher = runs["teacher[seed=0]"]
    assert (teacher.info.status, teacher.data.tags["sslflow.attempt"]) == ("FINISHED", "2")
    assert reader.history(teacher, "loss") == [(0, 1.0), (1, 0.5)]
    assert (runs["students"].info.status, runs["students"].data.tags["sslflow.error"]) == ("FAILED", "collapsed")
    assert (runs["report"].info.status, runs[""].info.status) == ("KILLED", "FAILED")


def test_what_the_store_refuses_for_good_does_not_hold_up_what_comes_after(reader: Reader, workspace: Path) -> None:
    said: list[str] = []
    plan = plan_of(workspace, "deleted", epochs=6)
    execution = begin(plan, "deleted", said.append)
    teacher = stage(execution, plan, "teacher[seed=0]")
    while "teacher[seed=0]" not in reader.runs("deleted"):
        time.sleep(0.05)
    reader.client.delete_run(reader.runs("deleted")["teacher[seed=0]"].info.run_id)
    log(teacher, 0, loss=1.0)
    assert execution.finish("done", {"accuracy": 0.5})
    assert reader.runs("deleted")[""].data.metrics == {"accuracy": 0.5}
    assert any("refused a record" in line and "must be in the 'active' state" in line for line in said)


def test_two_executions_at_once_share_one_database_and_print_nothing(reader: Reader, workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def execute(name: str) -> None:
        plan = plan_of(workspace, "together", epochs=7)
        execution = begin(plan, name)
        run = stage(execution, plan, "teacher[seed=0]")
        for step in range(1000):
            log(run, step, loss=float(step))
        run.end("done", {})
        assert execution.finish("done", {})

    threads = [threading.Thread(target=execute, args=(name,)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr() == ("", "")
    for name in ("left", "right"):
        assert len(reader.history(reader.runs(name)["teacher[seed=0]"], "loss")) == 1000


def test_runs_that_name_the_same_new_dataset_at_the_same_moment_both_get_it(reader: Reader, workspace: Path) -> None:
    uri, together = mlflow_tracker.tracking_uri(workspace), threading.Barrier(2)
    stores = [mlflow_store.Store(uri, "together", "", name) for name in ("left", "right")]

    def log_inputs(store: mlflow_store.Store, execution: str) -> None:
        ids: dict[str, str] = {}
        store.send([{"do": "start", "run": "", "name": execution, "time": 0, "tags": {"sslflow.execution": execution, "sslflow.stage": ""}}], ids)
        for number in range(20):
            together.wait(30)
            data = {"name": "raw", "digest": f"digest-{number}", "source": "data", "context": "training", "tags": {}}
            assert store.send([{"do": "input", "run": "", **data}], ids) == (1, [])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(log_inputs, stores, ("both-left", "both-right")))
    for execution in ("both-left", "both-right"):
        assert len(reader.runs(execution)[""].inputs.dataset_inputs) == 20


def test_what_a_killed_process_left_is_sent_and_its_runs_are_closed(reader: Reader, workspace: Path) -> None:
    code = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_mlflow import *
plan = plan_of(Path(sys.argv[2]), "killed", epochs=8)
run = stage(begin(plan, "killed"), plan, "teacher[seed=0]")
for step in range(50):
    log(run, step, loss=float(step))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), str(workspace)], check=False)
    assert done.returncode == -signal.SIGKILL
    spool = workspace / ".sslflow/runs/killed/spool.jsonl"
    with spool.open("a") as file:
        file.write('{"n": 99, "do": "lo')
    mlflow_tracker.resend(workspace)
    assert not spool.exists()
    runs = reader.runs("killed")
    assert {r.info.status for r in runs.values()} == {"KILLED"}
    assert reader.history(runs["teacher[seed=0]"], "loss") == [(step, float(step)) for step in range(50)]


def test_sending_a_spool_twice_changes_nothing(reader: Reader, workspace: Path) -> None:
    plan = plan_of(workspace, "twice", epochs=9)
    execution = begin(plan, "twice")
    run = stage(execution, plan, "students")
    for step in range(50):
        log(run, step, loss=float(step))
    spool = workspace / ".sslflow/runs/twice/spool.jsonl"
    run.end("done", make_artifacts(plan, "students"))
    operations = [line for line in spool.read_text().splitlines() if '"sent"' not in line]
    assert execution.finish("done", {"accuracy": 1.0})
    assert not spool.exists()
    spool.write_text("\n".join(operations) + "\n")
    mlflow_tracker.resend(workspace)
    runs = reader.runs("twice")
    assert len(runs) == len(reader.client.search_runs([runs[""].info.experiment_id])) == 2
    assert reader.history(runs["students"], "loss") == [(step, float(step)) for step in range(50)]
    assert len(runs["students"].inputs.dataset_inputs) == 1
    assert len(reader.client.search_model_versions("name = 'twice-students-tiny'")) == 1


def test_the_spool_of_a_run_that_goes_on_is_left_alone(workspace: Path) -> None:
    path = workspace / ".sslflow/runs/alive/spool.jsonl"
    spool = Spool(path, {"uri": mlflow_tracker.tracking_uri(workspace), "experiment": "alive", "artifacts": "", "execution": "alive"})
    spool.add({"do": "start", "run": "", "name": "alive", "time": 1, "tags": {}})
    mlflow_tracker.resend(workspace)
    assert len(spool.pending) == 1
    with pytest.raises(BlockingIOError):
        Spool(path)
    spool.close(remove=True)


class Flaky:
    """A receiver that is away for its first calls."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.got: list[int] = []

    def send(self, operations: list[Operation], ids: dict[str, str]) -> tuple[int, list[str]]:
        if self.away:
            self.away -= 1
            raise Unreachable("away")
        self.got += [o["value"] for o in operations[:2]]
        return len(operations[:2]), []


def test_a_receiver_that_comes_back_gets_everything_in_order_and_a_person_is_told_twice(tmp_path: Path) -> None:
    said: list[str] = []
    receiver = Flaky(away=2)
    spool = Spool(tmp_path / "spool.jsonl", {})
    sender = Sender(spool, lambda: receiver, said.append, lambda: None, every=0.01)
    for value in range(7):
        sender.put({"do": "log", "run": "", "value": value})
    sender.start()
    assert sender.finish(patience=10)
    assert receiver.got == list(range(7))
    assert [line.split(";")[0] for line in said] == ["MLflow takes no records now (away)", "MLflow is back"]


def test_a_receiver_that_stays_away_is_given_up_and_the_file_keeps_everything(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl", {"uri": "x"})
    sender = Sender(spool, lambda: Flaky(away=99), lambda _: None, lambda: None, every=0.01)
    sender.put({"do": "log", "run": "", "value": 1})
    sender.start()
    began = time.monotonic()
    assert not sender.finish(patience=0.3)
    assert time.monotonic() - began < 2
    spool.close(remove=False)
    again = Spool(tmp_path / "spool.jsonl")
    assert again.header == {"uri": "x"}
    assert [o["value"] for o in again.first(9)] == [1]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("train/loss", "train/loss"),
        ("teacher[seed=0]/knn@1", "teacher-seed-0/knn-1"),
        ("stages.teacher[seed=0].train", "stages.teacher-seed-0.train"),
        ("/a//../b", "a/b"),
        ("", "unnamed"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_are_made_such_that_mlflow_takes_them(name: str, wanted: str) -> None:
    assert clean(name) == wanted


def test_a_parameter_that_is_too_long_still_differs_from_another() -> None:
    one, two = params({"text": "a" * 7000 + "b"}), params({"text": "a" * 7000 + "c"})
    assert len(one["text"]) <= 6000
    assert one != two
