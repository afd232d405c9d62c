"""Where runs are tracked to, and what is refused before anything runs."""

import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow_runs import free_port

from schemas.errors import UserError
from workflows.engine import mlflow_tracker


def test_the_store_is_a_file_of_the_workspace_unless_the_environment_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_tracker.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert mlflow_tracker.tracking_uri(tmp_path) == "http://tracking:5000"


def test_importing_the_tracker_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, workflows.engine.mlflow_tracker, workflows.engine.mlflow_ui; print(sorted({'mlflow', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


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
