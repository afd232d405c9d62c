"""How a run appears in MLflow, on a real SQLite store."""

import hashlib
import math
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow_runs import VERSION, Reader, begin, log, make_artifacts, plan_of, stage, workspace

from workflows.engine import mlflow_store, mlflow_tracker
from workflows.engine.mlflow_values import clean, params

__all__ = ["workspace"]


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
from mlflow_runs import *
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
