"""A tracking server that is lost, comes back or never does, and the UI, with a real MLflow server."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow_runs import Reader, begin, free_port, log, make_artifacts, plan_of, stage

from workflows.engine import mlflow_store, mlflow_tracker, mlflow_ui


class Server:
    """A real MLflow server of two processes on a port and a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self._folder}/server.db", "--artifacts-destination", str(self._folder / "files")]
        environment = {**os.environ, **mlflow_store.ENVIRONMENT}
        command = [sys.executable, "-m", "mlflow", "server", *address, *store]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the MLflow server did not start")

    def kill(self) -> None:
        """Kill all its processes, as a lost machine would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the module: a start takes ten seconds."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, up, and named by the environment."""
    if one_server.process.poll() is not None:
        one_server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one_server.uri)
    return one_server


@pytest.mark.slow
def test_a_server_that_is_lost_and_comes_back_has_every_record(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    mlflow_tracker.check(server.uri)
    plan = plan_of(tmp_path)
    execution = begin(plan, "lost", said.append)
    assert execution.url.startswith(f"{server.uri}/#/experiments/")
    assert "/runs/" in execution.url
    teacher = stage(execution, plan, "teacher[seed=0]")
    for step in range(100):
        log(teacher, step, loss=float(step))
    time.sleep(3)
    server.kill()
    began = time.monotonic()
    for step in range(100, 5000):
        log(teacher, step, loss=math.nan if step == 200 else float(step))
    teacher.end("done", make_artifacts(plan, "teacher[seed=0]"))
    students = stage(execution, plan, "students")
    log(students, 0, loss=1.0)
    students.end("done", make_artifacts(plan, "students"))
    stage(execution, plan, "report").end("done", make_artifacts(plan, "report"))
    assert time.monotonic() - began < 5, "logging waits for the server"
    time.sleep(3)
    server.start()
    assert execution.finish("done", {"accuracy": 1.0}, patience=60)
    assert capfd.readouterr() == ("", "")
    assert [line.split("(")[0].split(";")[0] for line in said] == ["MLflow takes no records now ", "MLflow is back"]
    reader = Reader(server.uri)
    runs = reader.runs("lost")
    assert {n: r.info.status for n, r in runs.items()} == dict.fromkeys(("", "teacher[seed=0]", "students", "report"), "FINISHED")
    loss = reader.history(runs["teacher[seed=0]"], "loss")
    assert [step for step, _ in loss] == list(range(5000))
    assert math.isnan(dict(loss)[200])
    assert reader.files(runs["report"]) == ["figures", "report.html", "results.json"]
    assert runs[""].data.metrics == {"accuracy": 1.0}
    (version,) = reader.client.search_model_versions("name = 'digits-students-small'")
    assert version.run_id
    assert json.loads(Path(reader.client.download_artifacts(version.run_id, "small/artifact.json")).read_text())["dim"] == 512


@pytest.mark.slow
def test_a_server_that_never_comes_back_costs_a_run_nothing_and_the_next_run_sends_the_rest(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    plan = plan_of(tmp_path)
    execution = begin(plan, "gone", said.append)
    teacher = stage(execution, plan, "teacher[seed=0]")
    assert "/runs/" in execution.url
    server.kill()
    for step in range(3000):
        log(teacher, step, loss=float(step))
    teacher.end("done", {})
    began = time.monotonic()
    assert not execution.finish("done", {"accuracy": 1.0}, patience=5)
    assert time.monotonic() - began < 20
    spool = tmp_path / ".sslflow/runs/gone/spool.jsonl"
    assert f"kept in {spool}" in said[-1]
    mlflow_tracker.resend(tmp_path)
    assert spool.exists(), "a resend without a server must keep what there is"

    server.start()
    assert begin(plan_of(tmp_path), "next").finish("done", {})
    reader = Reader(server.uri)
    for _ in range(100):
        if not spool.exists():
            break
        time.sleep(0.1)
    mlflow_tracker.resend(tmp_path)
    runs = reader.runs("gone")
    assert [step for step, _ in reader.history(runs["teacher[seed=0]"], "loss")] == list(range(3000))
    assert (runs["teacher[seed=0]"].info.status, runs[""].data.metrics) == ("FINISHED", {"accuracy": 1.0})
    assert not spool.exists()


@pytest.mark.slow
def test_the_ui_serves_the_store_with_two_processes_and_stops_with_all_of_them(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        code = """
import sys
from pathlib import Path
from workflows.engine.mlflow_ui import ui
ui(Path(sys.argv[1]), int(sys.argv[2]), "http://prefect", lambda line: print(line, flush=True))
"""
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(port)], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "Prefect: http://prefect\n"
        address = process.stdout.readline().split()[1]
    assert address != f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(address, timeout=10) as page:
        assert b"<html" in page.read().lower()
    family = descendants(process.pid)
    assert len(family) <= 3
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    return [d for c in children.get(pid, []) for d in (c, *descendants(c))]


def test_the_ui_only_names_the_address_where_a_server_has_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    said: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow_ui.ui(tmp_path, say=said.append)
    assert said == [f"MLflow:  {uri}"]
