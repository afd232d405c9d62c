"""Runs on a server of their own, each in a process of its own, as `sslflow run` starts them."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

DRIVER = """
import json, sys
from pathlib import Path
from schemas.pipeline import Pipeline
from workflows.engine import flow, ledger, mlflow_tracker
from workflows.engine.reuse import make_plan

pipeline = Pipeline.model_validate({"name": "tiny", "stages": json.loads(sys.argv[1])})
plan = make_plan(pipeline, Path.cwd(), {name: "stamp" for name in pipeline.stages})
run = ledger.Run(Path.cwd(), "tiny")
tracked = mlflow_tracker.Execution(Path.cwd(), pipeline, "", {}, "", run.id, run.folder / "spool.jsonl")

def show(stage, event):
    # one write a line: stages speak from threads of their own, and `print` writes the text and its end apart
    sys.stdout.write(json.dumps({"stage": stage, **event}) + "\\n")
    sys.stdout.flush()

try:
    ok = flow.execute(plan, run, tracked, show)
except KeyboardInterrupt:
    tracked.finish("cancelled", {})
    sys.exit(130)
tracked.finish("done" if ok else "failed", {})
sys.exit(0 if ok else 1)
"""
LONG = {"kind": "ingest", "source": {"kind": "scenes", "count": 200_000, "size": 64}}


class Driven:
    """A run in a process of its own."""

    def __init__(self, workspace: Path, stages: dict[str, Any]) -> None:
        self.workspace = workspace
        self.events: list[dict[str, Any]] = []
        line = [sys.executable, "-c", DRIVER, json.dumps(stages)]
        self.process = subprocess.Popen(line, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def until(self, status: str) -> None:
        """Wait until a stage has that status."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1].get("status") == status:
                return
        pytest.fail(f"ended before any stage was {status}: {self.process.communicate()[1]}")

    def end(self) -> int:
        """Wait for its end; nothing but events may have been printed."""
        out, errors = self.process.communicate(timeout=300)
        self.events += [json.loads(line) for line in out.splitlines()]
        assert errors == "", errors
        return self.process.returncode

    def last(self) -> dict[str, str]:
        """The last status of each stage."""
        return {e["stage"]: e["status"] for e in self.events if e["event"] == "state"}


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], Driven]]:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    driven: list[Driven] = []

    def start(stages: dict[str, Any]) -> Driven:
        driven.append(Driven(tmp_path, stages))
        return driven[-1]

    yield start
    for one in driven:
        one.process.kill()
        one.process.communicate()


def scenes(count: int, **resources: Any) -> dict[str, Any]:
    return {"kind": "ingest", "source": {"kind": "scenes", "count": count, "size": 16}, "resources": resources}


def processes_of(workspace: Path) -> list[str]:
    lines = subprocess.run(["ps", "-ww", "-eo", "stat=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if "workflows.engine." in line and f"{workspace}/" in line and not line.startswith("Z")]


def wait_until_none(workspace: Path, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while left := processes_of(workspace):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def history(workspace: Path, table: str) -> list[tuple[str, str, str]]:
    """Name, type and state name of every run that the server of the workspace has recorded."""
    with sqlite3.connect(workspace / ".sslflow" / "prefect" / "prefect.db") as database:
        return list(database.execute(f"select name, state_type, state_name from {table} order by start_time"))


def test_the_history_of_a_run_is_whole_when_its_server_is_gone(drive: Callable[..., Driven], tmp_path: Path) -> None:
    many = {f"clean_{i}": {"kind": "curate", "dataset": "missing", "steps": ["integrity"]} for i in range(40)}
    missing = {"kind": "ingest", "source": {"kind": "folder", "path": "nowhere"}}
    run = drive({"raw": scenes(4), "missing": missing, **many})
    assert run.end() == 1
    assert not processes_of(tmp_path)
    assert [state for _, state, _ in history(tmp_path, "flow_run")] == ["FAILED"]
    tasks = {name: (state, label) for name, state, label in history(tmp_path, "task_run")}
    assert tasks.pop("raw") == ("COMPLETED", "Completed")
    assert tasks.pop("missing") == ("FAILED", "Failed")
    assert tasks == {f"{name} (skipped)": ("CANCELLED", "Skipped") for name in many}
    assert {run.last()[name] for name in many} == {"skipped"}


def test_an_interrupt_stops_everything_in_order_and_a_kill_blocks_nobody_for_long(drive: Callable[..., Driven], tmp_path: Path) -> None:
    run = drive({"raw": LONG})
    run.until("running")
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130
    assert time.monotonic() - began < 60
    assert not processes_of(tmp_path)
    assert run.last() == {"raw": "cancelled"}
    assert [state for _, state, _ in history(tmp_path, "flow_run")] == ["CANCELLED"]

    killed = drive({"raw": LONG})
    killed.until("running")
    killed.process.kill()
    wait_until_none(tmp_path)

    devices = len(json.loads(subprocess.run([sys.executable, "-c", SLOTS], capture_output=True, text=True, check=True).stdout))
    after = drive({"raw": scenes(4, devices=devices)})
    assert after.end() == 0, "every slot is free again when the lease of the killed run has ended"


SLOTS = "import json; from pathlib import Path; from workflows.engine.slots import host; print(json.dumps(host(Path('.')).cpu.devices))"


def test_a_run_goes_on_when_its_server_is_lost(drive: Callable[..., Driven], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "1")  # it rides out a minute by default
    run = drive({"raw": scenes(600), "clean": {"kind": "curate", "dataset": "raw", "steps": ["integrity"]}})
    run.until("running")
    subprocess.run(["kill", "-9", str(json.loads((tmp_path / ".sslflow" / "prefect" / "server.json").read_text())["pid"])], check=True)
    assert run.end() == 0
    assert run.last() == {"raw": "done", "clean": "done"}
    assert any("Prefect's server was lost" in event.get("message", "") for event in run.events)
