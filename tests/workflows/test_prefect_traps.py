"""What Prefect would do to us, on a real server with a real worker, both started by `sslflow up --worker`."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from schemas.errors import UserError
from schemas.pipeline import Pipeline
from workflows.engine import flow, ledger, mlflow_tracker, servers
from workflows.engine.deploy import deploy
from workflows.engine.reuse import make_plan

pytestmark = pytest.mark.slow

TINY = """
name: {name}
params: {{count: 4}}
stages:
  raw: {{kind: ingest, source: {{kind: scenes, count: "${{params.count}}", size: 16}}}}
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        try:
            servers.up(worker=True)
            found = servers.address()
            assert found
            yield found
        finally:
            servers.down()
        assert servers.address() is None


@pytest.fixture(scope="module")
def scheduled(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that is deployed to run every minute."""
    workspace = tmp_path_factory.mktemp("scheduled")
    (workspace / "p.yaml").write_text(TINY.format(name="by_itself"))
    assert servers.address() == url
    assert deploy(workspace / "p.yaml", "local", "* * * * *", workspace=workspace) == "by_itself/by_itself"
    return workspace


def ask(url: str, path: str, **body: Any) -> Any:
    request = Request(f"{url}{path}", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as reply:
        return json.load(reply)


def wait_for(found: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.5)
    return result


def flow_runs(url: str, pipeline: str) -> list[dict[str, Any]]:
    return list(ask(url, "/flow_runs/filter", flows={"name": {"any_": [pipeline]}}, sort="START_TIME_DESC"))


def task_runs(url: str, flow_run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {t["name"]: t for t in ask(url, "/task_runs/filter", flow_runs={"id": {"any_": [flow_run["id"]]}})}


def prefect(url: str, *line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PREFECT_API_URL": url, "DO_NOT_TRACK": "true"}
    return subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", *line], env=environment, capture_output=True, text=True, check=False)


def workers_of(workspace: Path) -> list[int]:
    """Processes that run a stage of the workspace."""
    found = subprocess.run(["pgrep", "-f", f"worker {workspace}/"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


class Execution:
    """One run of stages, in this process."""

    def __init__(self, workspace: Path, name: str, stages: dict[str, Any], params: dict[str, Any] | None = None) -> None:
        self.pipeline = Pipeline.model_validate({"name": name, "stages": stages, "params": params or {}})
        self.plan = make_plan(self.pipeline, workspace, dict.fromkeys(stages, "stamp"))
        self.run = ledger.Run(workspace, name)
        self.tracked = mlflow_tracker.Execution(workspace, self.pipeline, "", {}, "", self.run.id, self.run.folder / "spool.jsonl")
        self.events: list[tuple[str, dict[str, Any]]] = []

    def execute(self) -> bool:
        made = False
        try:
            made = flow.execute(self.plan, self.run, self.tracked, lambda stage, event: self.events.append((stage, event)))
        finally:
            self.tracked.finish("done" if made else "failed", {})
        return made

    def states(self) -> list[tuple[str, str]]:
        return [(stage, event["status"]) for stage, event in self.events if event["event"] == "state"]


def scenes(count: int, **resources: Any) -> dict[str, Any]:
    return {"kind": "ingest", "source": {"kind": "scenes", "count": count, "size": 16}, "resources": resources}


MISSING = {"kind": "ingest", "source": {"kind": "folder", "path": "nowhere"}}
NEEDS = {"kind": "curate", "steps": ["integrity"]}


def test_a_failed_stage_fails_the_flow_and_what_it_blocks_is_shown_as_skipped(url: str, scheduled: Path, tmp_path: Path) -> None:
    stages = {"missing": MISSING, "clean": {**NEEDS, "dataset": "missing"}, "cleaner": {**NEEDS, "dataset": "clean"}}
    execution = Execution(tmp_path, "fails", stages)
    assert not execution.execute()
    (run,) = flow_runs(url, "fails")
    assert (run["state"]["type"], run["name"]) == ("FAILED", execution.run.id)
    assert "missing failed: folder of images" in run["state"]["message"]
    tasks = task_runs(url, run)
    assert tasks["missing"]["state"]["name"] == "Failed"
    assert tasks["missing"]["run_count"] == 1, "a user's error is not tried again"
    assert {n: (t["state"]["type"], t["state"]["message"]) for n, t in tasks.items() if n != "missing"} == {
        "clean (skipped)": ("CANCELLED", "skipped: missing failed"),
        "cleaner (skipped)": ("CANCELLED", "skipped: missing failed"),
    }
    recorded = {n: s["status"] for n, s in execution.run.record["stages"].items()}
    assert recorded == {"missing": "failed", "clean": "skipped", "cleaner": "skipped"}
    assert scheduled.exists()


def test_a_stage_that_is_killed_is_tried_again_and_shows_as_made(url: str, tmp_path: Path) -> None:
    execution = Execution(tmp_path, "killed", {"raw": scenes(1500, retry_delay=1)})

    def kill_once() -> None:
        os.kill(wait_for(lambda: workers_of(tmp_path), 60)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_once)
    killer.start()
    assert execution.execute()
    killer.join()
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        tracked = "select status, value from runs join tags using (run_uuid) where name = 'raw' and key = 'sslflow.attempt'"
        assert store.execute(tracked).fetchall() == [("FINISHED", "2")]
    said = [event["message"] for _, event in execution.events if event["event"] == "note"]
    assert any("killed by SIGKILL (out of memory?)" in message and "try 2 of 3 in 1 s" in message for message in said)
    task = task_runs(url, flow_runs(url, "killed")[0])["raw"]
    assert (task["state"]["type"], task["run_count"]) == ("COMPLETED", 2)
    assert sorted(task["tags"]) == ["ingest", "pool:local"]


def test_a_timeout_really_stops_the_work_and_is_not_tried_again(url: str, tmp_path: Path) -> None:
    execution = Execution(tmp_path, "late", {"raw": scenes(200_000, timeout="1s")})
    began = time.monotonic()
    assert not execution.execute()
    assert time.monotonic() - began < 60
    assert not workers_of(tmp_path)
    task = task_runs(url, flow_runs(url, "late")[0])["raw"]
    assert task["run_count"] == 1
    assert "stages.raw.resources.timeout: stopped after 1s" in task["state"]["message"]


def test_the_strict_limit_is_held_and_what_was_made_is_shown_as_reused(url: str, tmp_path: Path) -> None:
    slots = len(flow.host(tmp_path).cpu.devices)
    stages = {f"raw_{i}": scenes(3000 + i) for i in range(slots + 1)}  # long enough to be seen side by side
    execution = Execution(tmp_path, "limited", stages)
    assert execution.execute()
    running = peak = 0
    for _, state in execution.states():
        running += 1 if state == "running" else -1
        peak = max(peak, running)
    assert peak == slots
    (limit,) = [entry for entry in ask(url, "/v2/concurrency_limits/filter") if entry["name"].startswith("sslflow-cpu-")]
    assert (limit["limit"], limit["active_slots"]) == (slots, 0)

    again = Execution(tmp_path, "limited", {**stages, "one_more": scenes(3)})
    assert again.execute()
    tasks = task_runs(url, flow_runs(url, "limited")[0])
    assert {n: t["state"]["name"] for n, t in tasks.items()} == {**{f"{n} (reused)": "Reused" for n in stages}, "one_more": "Completed"}


def test_more_devices_than_there_are_is_refused_before_any_work(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stages\.raw\.resources\.devices: 64 asked for, this host has \d+ CPU slots"):
        Execution(tmp_path, "greedy", {"raw": scenes(4, devices=64)}).execute()
    assert flow_runs(url, "greedy") == []


def test_a_pipeline_with_huge_parameters_runs_and_its_run_shows_notes_and_pages(url: str, tmp_path: Path) -> None:
    execution = Execution(tmp_path, "huge", {"raw": scenes(4), "clean": {**NEEDS, "dataset": "raw"}}, {"text": "x" * 600_000})
    assert execution.execute()
    (run,) = flow_runs(url, "huge")
    logs = [entry["message"] for entry in ask(url, "/logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}})]
    assert any("integrity: 0 of 4 removed" in message for message in logs)
    pages = {a["key"]: a for a in ask(url, "/artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"]]}})}
    assert sorted(pages) == ["huge-result", "huge-stages"]
    assert "- **clean** (curate, done)" in pages["huge-result"]["data"]


def test_a_deployment_refuses_wrong_parameters_and_runs_with_right_ones(url: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(TINY.format(name="deployed"))
    with pytest.raises(UserError, match="prefect work-pool create nowhere --type process"):
        deploy(tmp_path / "p.yaml", "nowhere", workspace=tmp_path)
    name = deploy(tmp_path / "p.yaml", "local", workspace=tmp_path)
    refused = prefect(url, "deployment", "run", name, "--param", 'params={"count": "many"}')
    assert refused.returncode != 0
    assert "count" in refused.stdout + refused.stderr
    done = prefect(url, "deployment", "run", name, "--param", 'params={"count": 5}', "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = flow_runs(url, "deployed")
    assert run["state"]["type"] == "COMPLETED"
    assert task_runs(url, run)["raw"]["state"]["type"] == "COMPLETED"
    (record,) = ledger.runs(tmp_path)
    assert (record["status"], record["params"], record["flow_run"]) == ("done", {"count": 5}, run["id"])


def test_a_failed_run_of_a_deployment_is_run_again_and_reuses_what_was_made(url: str, tmp_path: Path) -> None:
    late = "  late: {kind: ingest, source: {kind: folder, path: late}}\n  clean: {kind: curate, dataset: late, steps: [integrity]}\n"
    (tmp_path / "p.yaml").write_text(TINY.format(name="again") + late)
    (tmp_path / "late").mkdir()
    (tmp_path / "late/a.bmp").write_bytes(b"not an image")
    name = deploy(tmp_path / "p.yaml", "local", workspace=tmp_path)
    assert prefect(url, "deployment", "run", name, "--watch").returncode != 0
    assert flow_runs(url, "again")[0]["state"]["type"] == "FAILED"
    Image.linear_gradient("L").resize((16, 16)).save(tmp_path / "late/a.bmp")
    assert prefect(url, "deployment", "run", name, "--watch").returncode == 0
    latest, first = ledger.runs(tmp_path)
    assert {n: s["status"] for n, s in first["stages"].items()} == {"raw": "done", "late": "done", "clean": "failed"}
    assert {n: s["status"] for n, s in latest["stages"].items()} == {"raw": "reused", "late": "done", "clean": "done"}


def test_a_cancelled_run_leaves_no_process_and_ends_as_cancelled(url: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(TINY.format(name="cancelled"))
    name = deploy(tmp_path / "p.yaml", "local", workspace=tmp_path, overrides=["params.count=200000"])
    assert prefect(url, "deployment", "run", name).returncode == 0
    wait_for(lambda: workers_of(tmp_path), 90)
    (run,) = flow_runs(url, "cancelled")
    assert prefect(url, "flow-run", "cancel", run["id"]).returncode == 0
    wait_for(lambda: flow_runs(url, "cancelled")[0]["state"]["type"] == "CANCELLED", 60)
    wait_for(lambda: not workers_of(tmp_path), 30)
    wait_for(lambda: next(ledger.runs(tmp_path))["status"] == "cancelled", 30)


def test_a_schedule_fires_by_itself_and_what_is_made_is_not_made_again(url: str, scheduled: Path) -> None:
    def completed() -> list[str]:
        return [run["state"]["message"] for run in flow_runs(url, "by_itself") if run["state"]["type"] == "COMPLETED" and run["auto_scheduled"]]

    wait_for(lambda: len(completed()) > 1, 180)
    assert sorted(set(completed())) == ["done", "nothing to do"]
    assert [record["status"] for record in ledger.runs(scheduled)] == ["done"]
